package bench

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// imageSizes are the names that SGLang's client knows, width by height
// (sglang/benchmark/datasets/image.py 0.5.23).
var imageSizes = map[string][2]int{"4k": {3840, 2160}, "1080p": {1920, 1080}, "720p": {1280, 720}, "360p": {640, 360}}

// The pixels of one picture and of all pictures of a run are bounded.
const (
	maxSide   = 16384
	maxPixels = 1 << 30
)

// ParseImageSize reads 4k, 1080p, 720p, 360p, or HEIGHTxWIDTH in pixels.
func ParseImageSize(s string) (width, height int, err error) {
	s = strings.ToLower(s)
	if wh, ok := imageSizes[s]; ok {
		return wh[0], wh[1], nil
	}
	a, b, ok := strings.Cut(s, "x")
	height, err1 := strconv.Atoi(a)
	width, err2 := strconv.Atoi(b)
	if !ok || err1 != nil || err2 != nil || min(width, height) < 1 || max(width, height) > maxSide {
		return 0, 0, fmt.Errorf("%q is no size of a picture: 4k, 1080p, 720p, 360p or HEIGHTxWIDTH, up to %d", s, maxSide)
	}
	return width, height, nil
}

// AddImages puts count pictures in front of every prompt: JPEGs of random
// pixels, as data: URLs, as SGLang's client makes them. All are different.
func AddImages(list []Prompt, width, height, count int, seed uint64) error {
	if n := len(list) * count; count < 0 || n > 0 && width*height > maxPixels/n {
		return fmt.Errorf("%d pictures of %d by %d pixels are more than a run may hold", n, width, height)
	}
	work := make(chan int)
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range work {
				rnd := rand.New(rand.NewPCG(seed, uint64(i)+2))
				for range count {
					url, err := randomImage(rnd, width, height)
					if err != nil {
						errs[i] = err
						break
					}
					list[i].Images = append(list[i].Images, url)
				}
			}
		})
	}
	for i := range list {
		work <- i
	}
	close(work)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func randomImage(rnd *rand.Rand, width, height int) (string, error) {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := 0; i < len(m.Pix); i += 4 {
		v := rnd.Uint32()
		m.Pix[i], m.Pix[i+1], m.Pix[i+2], m.Pix[i+3] = byte(v), byte(v>>8), byte(v>>16), 255
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		return "", err
	}
	return "data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(b.Bytes()), nil
}
