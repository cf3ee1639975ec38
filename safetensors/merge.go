package safetensors

import "slices"

// addMTP reads an mtp.safetensors that is not listed, so that its layer is
// never lost, and reports all other unlisted files.
func (b *builder) addMTP() error {
	list := b.c.indexName
	if list == "" {
		list = "the checkpoint's " + SingleName
	}
	for _, name := range b.names {
		if b.listed[name] {
			continue
		}
		if name != MTPName {
			if b.repeats(name) {
				b.note(ProblemUnlisted, name, "", "not part of %s and not read: its tensors are in other files as well; engines that load every *.safetensors file load it", list)
				b.c.problems[len(b.c.problems)-1].Repeats = true
				continue
			}
			b.note(ProblemUnlisted, name, "", "not part of %s and not read; engines that load every *.safetensors file load it", list)
			continue
		}
		s, err := openShard(b.c.pool, b.path(name), name)
		if err := b.fail(err); err != nil {
			return err
		}
		if s == nil {
			continue
		}
		if b.repeatsIndexed(s) {
			b.note(ProblemUnlisted, name, "", "not part of %s and not read: its tensors are in other files as well", list)
			continue
		}
		b.note(ProblemUnlisted, name, "", "not part of %s; its %s tensors are read here, but engines that follow the index do not load them", list,
			commas(len(s.tensors)))
		b.c.shards[name] = s
		b.c.files = append(b.c.files, name)
		slices.Sort(b.c.files)
	}
	return nil
}

// repeats tells whether a file that is not listed can be read, and all of its
// tensors are in listed files.
func (b *builder) repeats(name string) bool {
	s, err := openShard(b.c.pool, b.path(name), name)
	if err != nil || s == nil || len(s.tensors) == 0 {
		return false
	}
	return b.repeatsIndexed(s)
}

func (b *builder) repeatsIndexed(extra *shard) bool {
	known := map[string]bool{}
	for _, s := range b.c.shards {
		for _, t := range s.tensors {
			known[t.Name] = true
		}
	}
	return !slices.ContainsFunc(extra.tensors, func(t Info) bool { return !known[t.Name] })
}

// merge joins the tensors of all files.
func (b *builder) merge() error {
	c := b.c
	n := 0
	for _, s := range c.shards {
		n += len(s.tensors)
	}
	c.tensors = make([]Info, 0, n)
	c.byName = make(map[string]int32, n)
	for _, name := range c.files {
		s := c.shards[name]
		for _, t := range s.tensors {
			if i, dup := c.byName[t.Name]; dup {
				if err := b.duplicate(int(i), t); err != nil {
					return err
				}
				continue
			}
			c.byName[t.Name] = int32(len(c.tensors))
			c.tensors = append(c.tensors, t)
		}
		s.tensors = nil // held once
	}
	return nil
}

// duplicate reports a tensor that two files hold. The one that the index names
// counts, without an index the first.
func (b *builder) duplicate(i int, t Info) error {
	kept, other := b.c.tensors[i], t
	why := ""
	if named := b.indexed()[t.Name]; named == t.File {
		kept, other = other, kept
		b.c.tensors[i] = kept
	}
	if b.indexed()[t.Name] == kept.File {
		why = ", which the index names"
	}
	e := fault(b.path(other.File)).at(ErrDuplicate, t.Name, other.Offset, "is also in %s%s", kept.File, why)
	e.Advice = "one of the two is left over from another state of the folder; glmconv repair " + b.dir + " keeps one"
	return b.fail(e)
}

// indexed returns the file that the index names for each tensor.
func (b *builder) indexed() map[string]string {
	if b.fileOf == nil && b.index != nil {
		b.fileOf = make(map[string]string, len(b.index.entries))
		for _, e := range b.index.entries {
			b.fileOf[e.Tensor] = e.File
		}
	}
	return b.fileOf
}

// compareIndex compares the index with the headers, both ways.
func (b *builder) compareIndex() error {
	if b.index == nil {
		return nil
	}
	c := b.c
	path := b.path(c.indexName)
	indexed := b.indexed()
	for _, e := range b.index.entries {
		if c.shards[e.File] == nil {
			if c.lost == nil {
				c.lost = map[string]string{}
			}
			c.lost[e.Tensor] = e.File
			continue // reported already
		}
		t, ok := c.Info(e.Tensor)
		if ok && t.File == e.File {
			continue
		}
		err := fault(path).at(ErrIndex, e.Tensor, -1, "is listed in %s, whose header does not have it", e.File)
		if ok {
			err.Reason += "; it is in " + t.File
		}
		err.Advice = "index and shards are not of one version; fetch both again"
		if err := b.fail(err); err != nil {
			return err
		}
	}
	for _, t := range c.tensors {
		if _, ok := indexed[t.Name]; !ok && b.listed[t.File] {
			b.note(ProblemUnindexed, t.File, t.Name, "in the shard but not in the index")
		}
	}
	return nil
}

// compareTotal compares total_size with the tensors. Tools differ in whether
// they count what the index does not list, so either sum is right, with or
// without a rotation that was listed afterwards (docs/facts/ascend.md 1.4).
func (b *builder) compareTotal() {
	c := b.c
	if b.index == nil || !c.hasTotal || slices.ContainsFunc(c.problems, func(p Problem) bool { return p.Kind == ProblemError }) {
		return
	}
	var all, inShards, later int64
	for _, t := range c.tensors {
		all += t.Size
		if t.File == rotationName {
			later += t.Size
		}
		if b.listed[t.File] {
			inShards += t.Size
		}
	}
	if !slices.Contains([]int64{all, inShards, all - later, inShards - later}, c.totalSize) {
		b.note(ProblemTotalSize, c.indexName, "", "total_size is %s, the tensors take %s bytes", commas(c.totalSize), commas(inShards))
	}
}
