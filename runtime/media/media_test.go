package media

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/image/bmp"
)

// scene is a picture that differs from frame to frame.
func scene(w, h, frame int, a uint8) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetNRGBA(x, y, color.NRGBA{uint8(x * 6), uint8(y * 8), uint8(frame * 80), a})
		}
	}
	return m
}

func encode(t testing.TB, kind string, m image.Image) []byte {
	var b bytes.Buffer
	var err error
	switch kind {
	case "png":
		err = png.Encode(&b, m)
	case "jpeg":
		err = jpeg.Encode(&b, m, &jpeg.Options{Quality: 95})
	case "bmp":
		err = bmp.Encode(&b, m)
	}
	require.NoError(t, err)
	return b.Bytes()
}

// cmykJPEG is an 8 × 8 picture of four Adobe components, all 128.
func cmykJPEG() []byte {
	b := []byte{0xFF, 0xD8, 0xFF, 0xEE, 0, 14, 'A', 'd', 'o', 'b', 'e', 0, 100, 0, 0, 0, 0, 0, 0xFF, 0xDB, 0, 67, 0}
	b = append(b, bytes.Repeat([]byte{1}, 64)...)
	b = append(b, 0xFF, 0xC0, 0, 20, 8, 0, 8, 0, 8, 4, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 4, 0x11, 0)
	for _, class := range []byte{0x00, 0x10} {
		b = append(b, 0xFF, 0xC4, 0, 20, class, 1)
		b = append(b, make([]byte, 16)...) // 15 counts and the only symbol
	}
	return append(b, 0xFF, 0xDA, 0, 14, 4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0, 0x00, 0xFF, 0xD9)
}

// pngHeader is a PNG that declares a size and has no data.
func pngHeader(w, h uint32) []byte {
	b := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, w), h)
	return join(pngSignature, pngChunk("IHDR", b, []byte{8, 2, 0, 0, 0}), pngChunk("IDAT", []byte{0x78}), pngChunk("IEND"))
}

// apng is an animation whose second frame covers a corner only.
func apng(t testing.TB) []byte {
	idat := func(m image.Image) []byte {
		b := encode(t, "png", m)
		for at := 8; ; {
			n := int(binary.BigEndian.Uint32(b[at:]))
			if string(b[at+4:at+8]) == "IDAT" {
				return b[at+8 : at+8+n]
			}
			at += 12 + n
		}
	}
	control := func(seq, w, h, x, y uint32) []byte {
		var b []byte
		for _, v := range []uint32{seq, w, h, x, y} {
			b = binary.BigEndian.AppendUint32(b, v)
		}
		return append(b, 0, 1, 0, 4, 0, 0) // a quarter of a second, keep, replace
	}
	whole := encode(t, "png", opaque(scene(40, 30, 0, 255)))
	ihdr := whole[8:33]
	return join(pngSignature, ihdr, pngChunk("acTL", []byte{0, 0, 0, 2, 0, 0, 0, 0}),
		pngChunk("fcTL", control(0, 40, 30, 0, 0)), pngChunk("IDAT", idat(opaque(scene(40, 30, 0, 255)))),
		pngChunk("fcTL", control(1, 10, 5, 30, 25)), pngChunk("fdAT", []byte{0, 0, 0, 2}, idat(opaque(scene(10, 5, 3, 255)))),
		pngChunk("IEND"))
}

// opaque has the colour type RGB in PNG.
func opaque(m *image.NRGBA) image.Image { return m }

func animatedGIF(t testing.TB, frames int) []byte {
	g := &gif.GIF{}
	for i := range frames {
		m := image.NewPaletted(image.Rect(0, 0, 40, 30), color.Palette{color.Black, color.White, color.NRGBA{255, 0, 0, 255}})
		if i > 0 {
			m.Rect, m.Pix = image.Rect(4, 4, 8, 8), m.Pix[:16]
			m.Stride = 4
		}
		for j := range m.Pix {
			m.Pix[j] = uint8(i % 3)
		}
		g.Image, g.Delay, g.Disposal = append(g.Image, m), append(g.Delay, 20), append(g.Disposal, gif.DisposalNone)
	}
	var b bytes.Buffer
	require.NoError(t, gif.EncodeAll(&b, g))
	return b.Bytes()
}

// animatedWebP shows testdata/frame0.webp … 2 for 100, 100 and 300 ms.
func animatedWebP(t testing.TB) []byte {
	body := appendRIFF([]byte("WEBP"), "VP8X", []byte{2, 0, 0, 0, 39, 0, 0, 29, 0, 0})
	body = appendRIFF(body, "ANIM", make([]byte, 6))
	for i, ms := range []uint16{100, 100, 300} {
		still, err := os.ReadFile(fmt.Sprintf("testdata/frame%d.webp", i))
		require.NoError(t, err)
		frame := []byte{0, 0, 0, 0, 0, 0, 39, 0, 0, 29, 0, 0, byte(ms), byte(ms >> 8), 0, 0}
		body = appendRIFF(body, "ANMF", append(frame, still[12:]...))
	}
	return appendRIFF(nil, "RIFF", body)
}

func y4m(w, h, frames int, colour string) []byte {
	b := []byte(fmt.Sprintf("YUV4MPEG2 W%d H%d F30000:1001 Ip A1:1 %s\n", w, h, colour))
	for i := range frames {
		b = append(b, "FRAME\n"...)
		b = append(b, bytes.Repeat([]byte{byte(16 + 40*i)}, w*h)...)
		b = append(b, bytes.Repeat([]byte{128}, 2*((w+1)/2)*((h+1)/2))...)
	}
	return b
}

func TestStills(t *testing.T) {
	want := scene(40, 30, 1, 255)
	webp, err := os.ReadFile("testdata/frame1.webp")
	require.NoError(t, err)
	for name, data := range map[string][]byte{"png": encode(t, "png", want), "bmp": encode(t, "bmp", want), "webp": webp, "jpeg": encode(t, "jpeg", want)} {
		im, err := DecodeImage(context.Background(), data, Limits{})
		require.NoError(t, err, name)
		require.Equal(t, []int{40, 30}, []int{im.Width, im.Height}, name)
		tol := 0.0
		if name == "jpeg" {
			tol = 30
		}
		for i := range 40 * 30 {
			for c := range 3 {
				assert.InDelta(t, want.Pix[4*i+c], im.Pix[3*i+c], tol, "%s pixel %d", name, i)
			}
		}
	}
}

func TestAlphaOverWhite(t *testing.T) {
	m := image.NewNRGBA(image.Rect(0, 0, 3, 1))
	m.SetNRGBA(0, 0, color.NRGBA{10, 20, 30, 0})
	m.SetNRGBA(1, 0, color.NRGBA{10, 20, 30, 255})
	m.SetNRGBA(2, 0, color.NRGBA{0, 100, 255, 128})
	im, err := DecodeImage(context.Background(), encode(t, "png", m), Limits{})
	require.NoError(t, err)
	assert.Equal(t, []byte{255, 255, 255, 10, 20, 30, 127, 177, 255}, im.Pix)
}

func TestCMYK(t *testing.T) {
	im, err := DecodeImage(context.Background(), cmykJPEG(), Limits{})
	require.NoError(t, err)
	require.Len(t, im.Pix, 192)
	for _, v := range im.Pix {
		assert.InDelta(t, 64, v, 2) // half ink, half black
	}
}

func TestOrientation(t *testing.T) {
	plain := encode(t, "jpeg", scene(40, 30, 1, 255))
	for o := 1; o <= 8; o++ {
		tiff := []byte{'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, byte(o), 0, 0, 0, 0, 0, 0, 0}
		body := append([]byte("Exif\x00\x00"), tiff...)
		data := join(plain[:2], []byte{0xFF, 0xE1, 0, byte(len(body) + 2)}, body, plain[2:])
		im, err := DecodeImage(context.Background(), data, Limits{})
		require.NoError(t, err)
		if o >= 5 {
			assert.Equal(t, []int{30, 40}, []int{im.Width, im.Height})
		}
		// The dark corner (0, 0) of the stored picture.
		x, y := 0, 0
		if o == 2 || o == 3 || o == 6 || o == 7 {
			x = im.Width - 1
		}
		if o == 3 || o == 4 || o == 7 || o == 8 {
			y = im.Height - 1
		}
		p := im.Pix[3*(y*im.Width+x):]
		assert.Less(t, int(p[0])+int(p[1]), 60, "orientation %d", o)
	}
}

func write(t testing.TB, name string, data []byte) string {
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

func all(int) bool { return true }

func frames(t *testing.T, c *Clip) (out []*Image) {
	require.NoError(t, c.Each(all, func(i int, im *Image) error {
		require.Equal(t, i, len(out))
		out = append(out, im)
		return nil
	}))
	require.Len(t, out, c.Frames())
	return out
}

func TestClips(t *testing.T) {
	folder := t.TempDir()
	for i := range 12 {
		require.NoError(t, os.WriteFile(filepath.Join(folder, fmt.Sprintf("f%d.png", i)), encode(t, "png", scene(40, 30, i, 255)), 0o600))
	}
	var mjpeg []byte
	for i := range 3 {
		mjpeg = append(mjpeg, encode(t, "jpeg", scene(40, 30, i, 255))...)
	}
	for _, c := range []struct {
		name, path string
		frames     int
		rate       float64
		pixel      func(i int) [3]int // of the place (6, 5)
	}{
		{"folder", folder, 12, 0, func(i int) [3]int { return [3]int{36, 40, i * 80 & 255} }},
		{"webp", write(t, "a.webp", animatedWebP(t)), 3, 6, func(i int) [3]int { return [3]int{36, 40, i * 80} }},
		{"gif", write(t, "a.gif", animatedGIF(t, 4)), 4, 5, func(i int) [3]int { return [][3]int{{}, {255, 255, 255}, {255, 0, 0}, {}}[i] }},
		{"apng", write(t, "a.png", apng(t)), 2, 4, func(int) [3]int { return [3]int{36, 40, 0} }},
		{"mjpeg", write(t, "a.mjpeg", mjpeg), 3, 0, func(i int) [3]int { return [3]int{36, 40, i * 80} }},
		{"y4m", write(t, "a.y4m", y4m(40, 30, 5, "C420jpeg")), 5, 30000.0 / 1001, func(i int) [3]int { v := (40*i*255 + 109) / 219; return [3]int{v, v, v} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			clip, err := OpenClip(context.Background(), c.path, Limits{})
			require.NoError(t, err)
			assert.Equal(t, c.frames, clip.Frames())
			assert.InDelta(t, c.rate, clip.Rate(), 1e-9)
			w, h := clip.Size()
			assert.Equal(t, []int{40, 30}, []int{w, h})
			got := frames(t, clip)
			for i, im := range got {
				want := c.pixel(i)
				for k := range 3 {
					tol := 0.0
					if c.name == "mjpeg" {
						tol = 20
					}
					assert.InDelta(t, want[k], im.Pix[3*(5*40+6)+k], tol, "frame %d channel %d", i, k)
				}
			}
			// Walking again and skipping gives the same frames.
			require.NoError(t, clip.Each(func(i int) bool { return i == c.frames-1 }, func(i int, im *Image) error {
				assert.Equal(t, got[c.frames-1].Pix, im.Pix)
				return nil
			}))
			stop := errors.New("enough")
			assert.ErrorIs(t, clip.Each(all, func(int, *Image) error { return stop }), stop)
		})
	}
	t.Run("apng corner", func(t *testing.T) {
		clip, err := OpenClip(context.Background(), write(t, "a.png", apng(t)), Limits{})
		require.NoError(t, err)
		im := frames(t, clip)[1]
		assert.Equal(t, []byte{0, 0, 240}, im.Pix[3*(25*40+30):][:3], "the second frame's corner")
		assert.Equal(t, []byte{29 * 6, 25 * 8, 0}, im.Pix[3*(25*40+29):][:3], "beside it the first")
	})
}

func TestFFmpeg(t *testing.T) {
	mp4 := write(t, "clip.mp4", []byte("\x00\x00\x00\x18ftypmp42...."))
	t.Run("absent", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := OpenClip(context.Background(), mp4, Limits{})
		assert.ErrorContains(t, err, "ffmpeg must be on PATH")
	})
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell")
	}
	fake := func(t *testing.T, script string) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "ffmpeg"), []byte("#!/bin/sh\n"+script), 0o700))
		t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	t.Run("decodes", func(t *testing.T) {
		fake(t, "cat "+write(t, "a.y4m", y4m(40, 30, 5, "C420jpeg"))+"\n")
		c, err := OpenClip(context.Background(), mp4, Limits{})
		require.NoError(t, err)
		assert.Len(t, frames(t, c), 5)
	})
	t.Run("fails", func(t *testing.T) {
		fake(t, "echo 'moov atom not found' >&2; exit 1\n")
		_, err := OpenClip(context.Background(), mp4, Limits{})
		assert.ErrorContains(t, err, "moov atom not found")
	})
}

// TestDecodingDoesNotWaitForADecoder: a decoder that never ends is left to itself
// until it reads again.
func TestDecodingDoesNotWaitForADecoder(t *testing.T) {
	image.RegisterFormat("slow", "SLOWSLOW", func(r io.Reader) (image.Image, error) {
		_, err := io.Copy(io.Discard, &forever{r: r})
		return nil, err
	}, func(io.Reader) (image.Config, error) {
		return image.Config{ColorModel: color.GrayModel, Width: 8, Height: 8}, nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := DecodeImage(ctx, []byte("SLOWSLOW"), Limits{})
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Less(t, time.Since(start), 900*time.Millisecond)
}

// forever reads on after the end.
type forever struct{ r io.Reader }

func (f *forever) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if errors.Is(err, io.EOF) {
		time.Sleep(time.Millisecond)
		return n, nil
	}
	return n, err
}
