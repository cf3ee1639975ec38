package media

import "encoding/binary"

// exifOrientation returns the orientation 1 … 8 that a JPEG's EXIF block
// declares, 1 if there is none or it cannot be read.
func exifOrientation(jpeg []byte) int {
	for p := 2; p+4 <= len(jpeg) && jpeg[p] == 0xFF; {
		marker, n := jpeg[p+1], int(binary.BigEndian.Uint16(jpeg[p+2:]))
		if marker == 0xFF {
			p++
			continue
		}
		if marker == 0xDA || n < 2 || p+2+n > len(jpeg) {
			break
		}
		if body := jpeg[p+4 : p+2+n]; marker == 0xE1 && len(body) > 6 && string(body[:6]) == "Exif\x00\x00" {
			return tiffOrientation(body[6:])
		}
		p += 2 + n
	}
	return 1
}

func tiffOrientation(b []byte) int {
	if len(b) < 8 {
		return 1
	}
	var o binary.ByteOrder = binary.LittleEndian
	if string(b[:2]) == "MM" {
		o = binary.BigEndian
	}
	at := uint64(o.Uint32(b[4:]))
	if at+2 > uint64(len(b)) {
		return 1
	}
	for i := range uint64(o.Uint16(b[at:])) {
		e := at + 2 + 12*i
		if e+12 > uint64(len(b)) {
			break
		}
		if o.Uint16(b[e:]) == 0x0112 {
			if v := int(o.Uint16(b[e+8:])); v >= 1 && v <= 8 {
				return v
			}
			break
		}
	}
	return 1
}

// orient turns and mirrors a picture as an EXIF orientation asks.
func orient(im *Image, orientation int) *Image {
	if orientation <= 1 || orientation > 8 {
		return im
	}
	w, h := im.Width, im.Height
	out := NewImage(w, h)
	if orientation >= 5 {
		out.Width, out.Height = h, w
	}
	for y := range out.Height {
		for x := range out.Width {
			sx, sy := x, y
			switch orientation {
			case 2:
				sx = w - 1 - x
			case 3:
				sx, sy = w-1-x, h-1-y
			case 4:
				sy = h - 1 - y
			case 5:
				sx, sy = y, x
			case 6:
				sx, sy = y, h-1-x
			case 7:
				sx, sy = w-1-y, h-1-x
			case 8:
				sx, sy = w-1-y, x
			}
			copy(out.Pix[3*(y*out.Width+x):][:3], im.Pix[3*(sy*w+sx):][:3])
		}
	}
	return out
}
