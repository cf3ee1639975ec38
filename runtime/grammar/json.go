package grammar

// values are the expressions of JSON.
type values struct {
	space, char, str, number, integer, boolean, null *Expr
	value, object, array                             *Expr
}

func newJSON() *values {
	digit, hex := bytesOf([2]byte{'0', '9'}), bytesOf([2]byte{'0', '9'}, [2]byte{'a', 'f'}, [2]byte{'A', 'F'})
	j := &values{}
	j.space = maybe(Or(Text(" "), Seq(Text("\n"), Repeat(Text(" "), 0, 20))))
	escape := Seq(Text(`\`), Or(bytesOf([2]byte{'"', '"'}, [2]byte{'\\', '\\'}, [2]byte{'/', '/'}, [2]byte{'b', 'b'}, [2]byte{'f', 'f'}, [2]byte{'n', 'n'}, [2]byte{'r', 'r'}, [2]byte{'t', 't'}),
		Seq(Text("u"), Or(Seq(without(bytesOf([2]byte{'0', '9'}, [2]byte{'a', 'f'}, [2]byte{'A', 'F'}), "dD"), hex, hex, hex), // no half of a pair
			Seq(bytesOf([2]byte{'d', 'd'}, [2]byte{'D', 'D'}), bytesOf([2]byte{'0', '7'}), hex, hex)))))
	j.char = Or(runes(without(bytesOf([2]byte{0x20, 0x7f}), `"\`)), escape)
	j.str = j.text(0, -1)
	j.integer = Seq(maybe(Text("-")), Or(Text("0"), Seq(bytesOf([2]byte{'1', '9'}), Repeat(digit, 0, 17))))
	fraction := Seq(Text("."), Repeat(digit, 1, 18))
	power := Seq(bytesOf([2]byte{'e', 'e'}, [2]byte{'E', 'E'}), maybe(bytesOf([2]byte{'+', '+'}, [2]byte{'-', '-'})), Repeat(digit, 1, 2))
	j.number = Seq(j.integer, maybe(fraction), maybe(power))
	j.boolean, j.null = Or(Text("true"), Text("false")), Text("null")
	j.value = &Expr{kind: isChoice}
	j.object = j.members(j.value)
	j.array = j.items(j.value, 0, -1)
	j.value.list = []*Expr{j.object, j.array, j.str, j.number, j.boolean, j.null}
	return j
}

// text is a string of lo to hi characters.
func (j *values) text(lo, hi int) *Expr {
	return Seq(Text(`"`), Repeat(j.char, lo, hi), Text(`"`))
}

// members is an object of any names with values of one kind.
func (j *values) members(value *Expr) *Expr {
	one := Seq(j.str, Text(":"), j.space, value)
	return Seq(Text("{"), j.space, maybe(Seq(one, Repeat(Seq(Text(","), j.space, one), 0, -1), j.space)), Text("}"))
}

// items is an array of lo to hi values.
func (j *values) items(value *Expr, lo, hi int) *Expr {
	switch {
	case hi == 0:
		return Seq(Text("["), j.space, Text("]"))
	case hi > 0:
		hi--
	}
	some := Seq(value, Repeat(Seq(Text(","), j.space, value), max(lo-1, 0), hi), j.space)
	if lo == 0 {
		some = maybe(some)
	}
	return Seq(Text("["), j.space, some, Text("]"))
}

// member is a declared property of an object.
type member struct {
	name     string // as JSON
	value    *Expr
	required bool
}

// properties is an object with members in their order; those that are not
// required may be left out.
func (j *values) properties(list []member) *Expr {
	// rest[i] follows a member before the i-th, first[i] the opening brace.
	rest, first := j.space, j.space
	for i := len(list) - 1; i >= 0; i-- {
		m := list[i]
		own := Seq(Text(m.name), Text(":"), j.space, m.value, rest)
		next := Seq(Text(","), j.space, own)
		begin := Seq(j.space, own)
		if m.required {
			rest, first = next, begin
		} else {
			rest, first = Or(next, rest), Or(begin, first)
		}
	}
	return Seq(Text("{"), first, Text("}"))
}
