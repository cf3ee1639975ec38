package vision

import "fmt"

// expanded reports whether a prompt has more picture tokens than pictures, or
// clips without a clip's token: it went through a processor before.
func (w *walk) expanded(ids []int, items []*Patches) bool {
	var stills, clips, pictures, films int
	for _, it := range items {
		if it.Times == nil {
			stills++
		} else {
			clips++
		}
	}
	for _, id := range ids {
		switch {
		case id < 0:
		case id == w.v.ImageTokenID:
			pictures++
		case id == w.v.VideoTokenID:
			films++
		}
	}
	return len(items) > 0 && films == 0 && pictures > 0 && (pictures > stills || clips > 0)
}

// place lays out a prompt with expanded placeholders. Picture tokens between
// video_start and video_end belong to a clip, a run for each temporal slice.
func (w *walk) place(ids []int, items []*Patches) (*Inputs, error) {
	var stills, clips []*Patches
	for _, it := range items {
		if it.Times == nil {
			stills = append(stills, it)
		} else {
			clips = append(clips, it)
		}
	}
	inVideo, slice := false, 0
	for i := 0; i < len(ids); {
		id := ids[i]
		if id != w.v.ImageTokenID {
			if id >= 0 && (id == w.v.VideoStartID || id == w.v.VideoEndID) {
				if inVideo && slice > 0 {
					return nil, fmt.Errorf("token %d of the prompt ends a video after %d of %d slices", i, slice, clips[0].Grid.T)
				}
				inVideo = id == w.v.VideoStartID
			}
			w.text(id)
			i++
			continue
		}
		queue, what := &stills, "picture"
		if inVideo {
			queue, what = &clips, "video"
		}
		if len(*queue) == 0 {
			return nil, fmt.Errorf("token %d of the prompt is a placeholder for a %s, but no %s is left for it", i, what, what)
		}
		it := (*queue)[0]
		n, have := it.Grid.H*it.Grid.W/(w.v.MergeSize*w.v.MergeSize), 0
		for i+have < len(ids) && ids[i+have] == w.v.ImageTokenID && have < n {
			have++
		}
		if have < n {
			return nil, fmt.Errorf("token %d of the prompt begins %d placeholders, the %s there has %d: it was prepared for another size", i, have, what, n)
		}
		w.slice(it.Grid)
		i += n
		if slice++; slice == it.Grid.T {
			w.in.Items, *queue, slice = append(w.in.Items, it), (*queue)[1:], 0
		}
	}
	if n := len(stills) + len(clips); n > 0 {
		return nil, fmt.Errorf("%d of %d pictures and videos have no placeholder in the prompt", n, len(items))
	}
	w.in.Delta = w.next - len(w.in.IDs)
	return w.in, nil
}
