package tokenizer

// byteRunes maps each byte to the printable character that stands for it in a
// byte-level vocabulary: printable Latin-1 stands for itself, the other 68
// bytes are U+0100, U+0101, … in increasing order (the GPT-2 table).
var byteRunes, runeBytes = func() (to [256]rune, from map[rune]byte) {
	from = make(map[rune]byte, 256)
	next := rune(0x100)
	for b := range 256 {
		r := rune(b)
		if !(b >= 0x21 && b <= 0x7e || b >= 0xa1 && b <= 0xac || b >= 0xae) {
			r = next
			next++
		}
		to[b] = r
		from[r] = byte(b)
	}
	return to, from
}()

// unmap returns the bytes a vocabulary entry stands for; ok is false if it has
// a character that stands for no byte.
func unmap(entry string) (bytes string, ok bool) {
	b := make([]byte, 0, len(entry))
	for _, r := range entry {
		c, ok := runeBytes[r]
		if !ok {
			return "", false
		}
		b = append(b, c)
	}
	return string(b), true
}
