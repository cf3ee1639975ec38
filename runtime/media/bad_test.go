package media

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// TestBadMedia: everything gives pictures or a sentence, and takes no memory to
// speak of.
func TestBadMedia(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no ffmpeg
	whole := encode(t, "png", scene(40, 30, 0, 255))
	cut := func(b []byte) []byte { return b[:2*len(b)/3] }
	photo := encode(t, "jpeg", scene(40, 30, 0, 255))
	hugeGIF := bytes.Clone(animatedGIF(t, 2))
	copy(hugeGIF[6:], []byte{0xFF, 0xFF, 0xFF, 0xFF})
	hugeWebP := appendRIFF([]byte("WEBP"), "VP8X", []byte{2, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})
	hugeWebP = appendRIFF(nil, "RIFF", appendRIFF(hugeWebP, "ANIM", make([]byte, 6)))
	hugeInside := appendRIFF(nil, "RIFF", appendRIFF([]byte("WEBP"), "VP8L", []byte{0x2F, 0xFF, 0xFF, 0xFF, 0x0F, 0, 0, 0}))
	for _, c := range []struct {
		name  string
		data  []byte
		still string // part of the sentence, "" for a picture
		clip  string
	}{
		{"empty", nil, "empty", "empty"},
		{"text", []byte("hello, world"), "not a picture", "ffmpeg"},
		{"truncated png", cut(whole), "truncated", "truncated"},
		{"truncated jpeg", cut(photo), "truncated", "truncated"},
		{"truncated gif", cut(animatedGIF(t, 3)), "truncated", "truncated"},
		{"truncated apng", cut(apng(t)), "truncated", "truncated"},
		{"truncated webp animation", cut(animatedWebP(t)), "truncated", "truncated"},
		{"truncated y4m", cut(y4m(40, 30, 2, "C420")), "not a picture", "truncated"},
		{"jpeg start only", photo[:2], "truncated", "ffmpeg"},
		{"1 × 1", encode(t, "png", scene(1, 1, 0, 255)), "", ""},
		{"20000 × 3", encode(t, "png", scene(20000, 3, 0, 255)), "", ""},
		{"alpha", encode(t, "png", scene(40, 30, 0, 9)), "", ""},
		{"cmyk jpeg", cmykJPEG(), "", ""},
		{"animated gif", animatedGIF(t, 3), "", ""},
		{"gif without frames", []byte("GIF89a\x04\x00\x04\x00\x00\x00\x00;"), "no frames", "no frames"},
		{"gif of a huge canvas", hugeGIF, "limit", "limit"},
		{"webp of a huge canvas", hugeWebP, "limit", "limit"},
		{"webp without frames", appendRIFF(nil, "RIFF", appendRIFF([]byte("WEBP"), "VP8X", []byte{2, 0, 0, 0, 9, 0, 0, 9, 0, 0})), "no frames", "no frames"},
		{"webp with a huge picture inside", hugeInside, "limit", "limit"},
		{"apng without frames", join(pngSignature, pngHeader(3, 3)[8:33], pngChunk("acTL", make([]byte, 8)), pngChunk("IEND")), "png", "no frames"},
		{"huge png", pngHeader(100000, 100000), "limit", "limit"},
		{"png of zero width", pngHeader(0, 10), "", "png"},
		{"huge bmp", append([]byte("BM\x00\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x01\x00\x18\x00"),
			make([]byte, 24)...), "limit", "limit"},
		{"y4m without frames", []byte("YUV4MPEG2 W40 H30 F25:1\n"), "not a picture", "no frames"},
		{"y4m of zero size", []byte("YUV4MPEG2 W0 H0 F25:1\nFRAME\n"), "not a picture", "nothing to see"},
		{"y4m without a size", []byte("YUV4MPEG2\nFRAME\n"), "not a picture", "nothing to see"},
		{"huge y4m", []byte("YUV4MPEG2 W2000000000 H2000000000 F25:1\nFRAME\n"), "not a picture", "limit"},
		{"y4m of negative size", []byte("YUV4MPEG2 W-4 H-4\nFRAME\n"), "not a picture", "nothing to see"},
		{"y4m with a large frame that is not there", []byte("YUV4MPEG2 W8000 H8000 F25:1\nFRAME\nabc"), "not a picture", "truncated"},
		{"y4m of an unknown colour space", []byte("YUV4MPEG2 W4 H4 Cxyz\nFRAME\n"), "not a picture", "colour space"},
		{"y4m with an endless line", append([]byte("YUV4MPEG2 "), bytes.Repeat([]byte{'x'}, 5000)...), "not a picture", "longer"},
		{"mp4", []byte("\x00\x00\x00\x18ftypmp42...."), "not a picture", "ffmpeg must be on PATH"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "png of zero width" {
				c.still = "png"
			}
			path := write(t, "file", c.data)
			judge := func(want string, err error) {
				if want == "" {
					require.NoError(t, err)
					return
				}
				var e *Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, path, e.Path)
				assert.Contains(t, err.Error(), want)
				assert.NotContains(t, err.Error(), "\n")
			}
			var before, after goruntime.MemStats
			goruntime.ReadMemStats(&before)
			im, err := OpenImage(context.Background(), path, Limits{})
			judge(c.still, err)
			if err == nil {
				assert.Len(t, im.Pix, 3*im.Width*im.Height)
			}
			clip, err := OpenClip(context.Background(), path, Limits{})
			if err == nil {
				err = clip.Each(all, func(_ int, im *Image) error {
					w, h := clip.Size()
					assert.Equal(t, []int{w, h}, []int{im.Width, im.Height})
					return nil
				})
			}
			judge(c.clip, err)
			goruntime.ReadMemStats(&after)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20))
		})
	}
}

func TestBadPaths(t *testing.T) {
	_, err := OpenImage(context.Background(), filepath.Join(t.TempDir(), "absent.png"), Limits{})
	assert.ErrorContains(t, err, "no such file")
	_, err = OpenImage(context.Background(), t.TempDir(), Limits{})
	assert.ErrorContains(t, err, "folder")
	_, err = OpenClip(context.Background(), t.TempDir(), Limits{})
	assert.ErrorContains(t, err, "no pictures")
	_, err = OpenImage(context.Background(), write(t, "a.png", encode(t, "png", scene(40, 30, 0, 255))), Limits{Bytes: 100})
	assert.ErrorContains(t, err, "limit of 100 bytes")
	_, err = OpenImage(context.Background(), write(t, "a.png", encode(t, "png", scene(40, 30, 0, 255))), Limits{Pixels: 1000})
	assert.ErrorContains(t, err, "40 × 30")
	_, err = OpenClip(context.Background(), write(t, "a.y4m", y4m(40, 30, 5, "C420")), Limits{Frames: 4})
	assert.ErrorContains(t, err, "4 frames")
	_, err = OpenClip(context.Background(), write(t, "a.gif", animatedGIF(t, 5)), Limits{Frames: 4})
	assert.ErrorContains(t, err, "4 frames")
}

func TestByNumber(t *testing.T) {
	assert.Negative(t, byNumber("frame2.png", "frame10.png"))
	assert.Negative(t, byNumber("a9b2", "a09b10"))
	assert.Positive(t, byNumber("b", "a10"))
	assert.NotZero(t, byNumber("f01", "f1"))
}

// TestY4MForms: every colour space reads white as white.
func TestY4MForms(t *testing.T) {
	for colour, bytesPer := range map[string]struct{ luma, chroma, wide int }{
		"C420jpeg": {35, 12, 1}, "C420mpeg2": {35, 12, 1}, "C422": {35, 20, 1}, "C444": {35, 35, 1}, "C411": {35, 10, 1},
		"Cmono": {35, 0, 1}, "C420p10": {35, 12, 2}, "C444p12": {35, 35, 2}, "Cmono16": {35, 0, 2},
	} {
		b := []byte("YUV4MPEG2 W7 H5 F25:1 " + colour + "\nFRAME Ip\n")
		if i := strings.IndexByte(colour, 'p'); i > 0 && colour[i+1] >= '0' && colour[i+1] <= '9' || colour == "Cmono16" {
			depth := map[string]int{"C420p10": 10, "C444p12": 12, "Cmono16": 16}[colour]
			for range bytesPer.luma {
				b = append(b, byte(uint(235)<<(depth-8)), byte(235>>(16-depth)))
			}
			for range 2 * bytesPer.chroma {
				b = append(b, byte(uint(128)<<(depth-8)), byte(128>>(16-depth)))
			}
		} else {
			b = append(b, bytes.Repeat([]byte{235}, bytesPer.luma)...)
			b = append(b, bytes.Repeat([]byte{128}, 2*bytesPer.chroma)...)
		}
		c, err := OpenClip(context.Background(), write(t, "a.y4m", b), Limits{})
		require.NoError(t, err, colour)
		for _, im := range frames(t, c) {
			assert.Equal(t, bytes.Repeat([]byte{255}, 105), im.Pix, colour)
		}
	}
}

func opener(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

var fuzzLimits = Limits{Pixels: 1 << 16, Bytes: 1 << 20, Frames: 8}

// fuzzBytes is what a decoder may allocate for pixels within these limits: some
// planes of every frame.
const fuzzBytes = 16 << 20

func FuzzY4M(f *testing.F) {
	f.Add(y4m(4, 3, 2, "C420jpeg"))
	f.Add([]byte("YUV4MPEG2 W4 H4 C444p10 XCOLORRANGE=FULL\nFRAME\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		testkit.AllocatesWithin(t, len(data), 100, fuzzBytes, func() {
			c, err := y4mClip(context.Background(), opener(data), fuzzLimits.fill())
			if err != nil {
				return
			}
			n := 0
			require.NoError(t, c.walk(all, func(int, *Image) error { n++; return nil }))
			assert.Equal(t, c.frames, n)
		})
	})
}

func FuzzMJPEG(f *testing.F) {
	f.Add(append(cmykJPEG(), cmykJPEG()...))
	f.Add([]byte{0xFF, 0xD8, 0xFF, 0xDA, 0, 2, 1, 0xFF, 0, 0xFF, 0xD0, 0xFF, 0xD9})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReader(bytes.NewReader(data))
		for {
			b, err := nextJPEG(r, 1<<16)
			if err != nil {
				if errors.Is(err, io.EOF) {
					return
				}
				break
			}
			require.True(t, bytes.HasPrefix(b, []byte{0xFF, 0xD8}) && bytes.HasSuffix(b, []byte{0xFF, 0xD9}))
			require.True(t, bytes.Contains(data, b))
		}
	})
}

func FuzzAnimation(f *testing.F) {
	f.Add(animatedGIF(f, 3))
	f.Add(apng(f))
	f.Add(animatedWebP(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		testkit.AllocatesWithin(t, len(data), 100, fuzzBytes, func() {
			a, err := openAnimation(data, fuzzLimits.fill())
			if err != nil || a == nil {
				return
			}
			n := 0
			if err := a.each(context.Background(), all, func(_ int, im *Image) error {
				n++
				if len(im.Pix) != 3*a.w*a.h {
					return fmt.Errorf("%d bytes", len(im.Pix))
				}
				return nil
			}); err == nil {
				assert.Equal(t, len(a.parts), n)
			}
		})
	})
}

// FuzzStill decodes any bytes as a picture of every kind that is known.
func FuzzStill(f *testing.F) {
	f.Add(cmykJPEG())
	f.Add(apng(f)[:60])
	f.Add(animatedGIF(f, 1))
	f.Add([]byte("BM\x3a\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x18\x00" +
		strings.Repeat("\x00", 24) + "\x01\x02\x03\x00"))
	f.Add([]byte("II*\x00\x08\x00\x00\x00\x02\x00\x00\x01\x03\x00\x01\x00\x00\x00\xff\xff\x00\x00\x01\x01\x03\x00\x01\x00\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		testkit.AllocatesWithin(t, len(data), 100, fuzzBytes, func() {
			im, err := DecodeImage(context.Background(), data, fuzzLimits)
			if err == nil {
				require.Positive(t, im.Width)
				require.Len(t, im.Pix, 3*im.Width*im.Height)
			}
		})
	})
}

func FuzzExif(f *testing.F) {
	f.Add([]byte("\xFF\xD8\xFF\xE1\x00\x22Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		o := exifOrientation(data)
		assert.True(t, o >= 1 && o <= 8)
	})
}

// TestDecodingEnds: every way to decode ends with its context, with the
// context's error and without a file's name in front.
func TestDecodingEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	big := encode(t, "png", scene(400, 300, 0, 255))
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "1.png"), big, 0o644))
	files := map[string]string{
		"png": write(t, "a.png", big), "jpeg": write(t, "a.jpg", encode(t, "jpeg", scene(400, 300, 0, 255))), "gif": write(t, "a.gif", animatedGIF(t, 5)),
	}
	for name, path := range files {
		_, err := OpenImage(ctx, path, Limits{})
		assert.ErrorIs(t, err, context.Canceled, name)
		var e *Error
		assert.NotErrorAs(t, err, &e, name)
	}
	files["y4m"], files["folder"] = write(t, "a.y4m", y4m(40, 30, 5, "C420")), folder
	for name, path := range files {
		during, end := context.WithCancel(context.Background())
		c, err := OpenClip(during, path, Limits{})
		require.NoError(t, err, name)
		end()
		err = c.Each(func(int) bool { return true }, func(int, *Image) error { return nil })
		if name != "png" && name != "jpeg" { // one frame, decoded when it was opened
			assert.ErrorIs(t, err, context.Canceled, name)
		}
	}
}
