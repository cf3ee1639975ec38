package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
)

var pngSignature = []byte("\x89PNG\r\n\x1a\n")

// apngReader reads an animated PNG chunk by chunk.
type apngReader struct {
	l            Limits
	frames       *animation
	ihdr, shared []byte // IHDR's body; PLTE and tRNS as they are
	open         *part
	body         [][]byte // compressed data of the open frame
	animated     bool
	still        bool // not a PNG that this reads: the decoder for stills says what is wrong
}

// splitAPNG finds the frames of an animated PNG; nil for a still one.
func splitAPNG(data []byte, l Limits) (*animation, error) {
	r := apngReader{l: l}
	for at := len(pngSignature); at < len(data); {
		if at+12 > len(data) || int64(binary.BigEndian.Uint32(data[at:])) > int64(len(data)-at-12) {
			if r.animated {
				return nil, errTruncated
			}
			return nil, nil
		}
		n := 12 + int(binary.BigEndian.Uint32(data[at:]))
		kind := string(data[at+4 : at+8])
		if err := r.chunk(kind, data[at:at+n]); err != nil || r.still {
			return nil, err
		}
		if kind == "IEND" {
			break
		}
		at += n
	}
	if !r.animated {
		return nil, nil
	}
	return r.frames, r.finish()
}

// chunk takes the next chunk, whole.
func (r *apngReader) chunk(kind string, whole []byte) error {
	b := whole[8 : len(whole)-4]
	switch kind {
	case "IHDR":
		if len(b) != 13 {
			r.still = true
			return nil
		}
		w, h := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		if w > 1<<30 || h > 1<<30 {
			r.still = true
			return nil
		}
		r.ihdr, r.frames = b, &animation{w: int(w), h: int(h)}
	case "PLTE", "tRNS":
		r.shared = append(r.shared[:len(r.shared):len(r.shared)], whole...)
	case "acTL":
		r.animated = r.ihdr != nil
	case "fcTL":
		if !r.animated {
			break
		}
		if len(b) != 26 {
			return errors.New("the png data is damaged: fcTL has a wrong size")
		}
		if err := r.finish(); err != nil {
			return err
		}
		r.open = frameControl(b)
	case "IDAT":
		if r.open != nil {
			r.body = append(r.body, b)
		} else if !r.animated {
			r.still = true
		}
	case "fdAT":
		if r.open != nil && len(b) >= 4 {
			r.body = append(r.body, b[4:])
		}
	}
	return nil
}

// finish adds the open frame, as a still image of its own.
func (r *apngReader) finish() error {
	if r.open == nil {
		return nil
	}
	if len(r.body) == 0 {
		return errTruncated
	}
	p, body, head, common := *r.open, r.body, bytes.Clone(r.ihdr), r.shared
	binary.BigEndian.PutUint32(head, uint32(p.area.Dx()))
	binary.BigEndian.PutUint32(head[4:], uint32(p.area.Dy()))
	p.file = func() []byte {
		return join(pngSignature, pngChunk("IHDR", head), common, pngChunk("IDAT", body...), pngChunk("IEND"))
	}
	r.open, r.body = nil, nil
	return r.frames.add(p, r.l)
}

func frameControl(b []byte) *part {
	u := func(i int) int { return int(min(binary.BigEndian.Uint32(b[i:]), 1<<30)) }
	p := &part{area: image.Rect(u(12), u(16), u(12)+u(4), u(16)+u(8)), replace: b[25] == 0}
	num, den := binary.BigEndian.Uint16(b[20:]), binary.BigEndian.Uint16(b[22:])
	if den == 0 {
		den = 100
	}
	p.seconds = float64(num) / float64(den)
	switch b[24] {
	case 1:
		p.dispose = clearArea
	case 2:
		p.dispose = restore
	}
	return p
}

func pngChunk(kind string, body ...[]byte) []byte {
	b := join(body...)
	out := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
	out = append(append(out, kind...), b...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[4:]))
}

// splitWebP finds the frames of an animated WebP; nil for a still one.
func splitWebP(data []byte, l Limits) (*animation, error) {
	var a *animation
	for rest := data[12:]; len(rest) >= 8; {
		kind, b, next, ok := riffChunk(rest)
		if !ok {
			if a != nil {
				return nil, errTruncated
			}
			return nil, nil
		}
		switch {
		case kind == "VP8X" && len(b) >= 10 && b[0]&2 != 0:
			a = &animation{w: u24(b[4:]) + 1, h: u24(b[7:]) + 1}
		case kind == "ANMF" && a != nil:
			if len(b) < 16 {
				return nil, errTruncated
			}
			x, y, w, h := 2*u24(b), 2*u24(b[3:]), u24(b[6:])+1, u24(b[9:])+1
			p := part{area: image.Rect(x, y, x+w, y+h), seconds: float64(u24(b[12:])) / 1000, replace: b[15]&2 != 0}
			if b[15]&1 != 0 {
				p.dispose = clearArea
			}
			p.file = func() []byte { return webpFile(w, h, b[16:]) }
			if err := a.add(p, l); err != nil {
				return nil, err
			}
		}
		rest = next
	}
	if a != nil && int64(binary.LittleEndian.Uint32(data[4:])) > int64(len(data)-8) {
		return nil, errTruncated
	}
	return a, nil
}

func u24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

func riffChunk(b []byte) (kind string, body, rest []byte, ok bool) {
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	if n > int64(len(b)-8) {
		return string(b[:4]), nil, nil, false
	}
	end := min(int64(len(b)), 8+n+n&1)
	return string(b[:4]), b[8 : 8+n], b[end:], true
}

// webpFile makes a still WebP of the chunks of a frame.
func webpFile(w, h int, chunks []byte) []byte {
	var keep []byte
	alpha := false
	for len(chunks) >= 8 {
		kind, body, rest, ok := riffChunk(chunks)
		if !ok {
			break
		}
		switch kind {
		case "ALPH", "VP8 ", "VP8L":
			alpha = alpha || kind == "ALPH"
			keep = appendRIFF(keep, kind, body)
		}
		chunks = rest
	}
	out := []byte("WEBP")
	if alpha {
		w, h := w-1, h-1
		out = appendRIFF(out, "VP8X", []byte{0x10, 0, 0, 0, byte(w), byte(w >> 8), byte(w >> 16), byte(h), byte(h >> 8), byte(h >> 16)})
	}
	return appendRIFF(nil, "RIFF", append(out, keep...))
}

func appendRIFF(dst []byte, kind string, body []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(append(dst, kind...), uint32(len(body)))
	dst = append(dst, body...)
	if len(body)%2 != 0 {
		dst = append(dst, 0)
	}
	return dst
}

// webpInner returns the size that the bitstream of a still WebP declares, 0 if
// it cannot be told.
func webpInner(data []byte) (w, h int) {
	for rest := data[min(12, len(data)):]; len(rest) >= 8; {
		kind, b, next, ok := riffChunk(rest)
		if !ok {
			b = rest[8:] // truncated: the size may still be there
		}
		switch {
		case kind == "VP8 " && len(b) >= 10:
			w, h = int(binary.LittleEndian.Uint16(b[6:]))&0x3FFF, int(binary.LittleEndian.Uint16(b[8:]))&0x3FFF
		case kind == "VP8L" && len(b) >= 5:
			v := binary.LittleEndian.Uint32(b[1:])
			w, h = int(v&0x3FFF)+1, int(v>>14&0x3FFF)+1
		}
		if !ok {
			break
		}
		rest = next
	}
	return w, h
}
