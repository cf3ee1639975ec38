package arm64

import (
	"bufio"
	"encoding/binary"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/arch/arm64/arm64asm"
)

// disassemble is the judge of encodings: Go's own disassembler, made from the
// architecture's machine-readable specification.
func disassemble(t *testing.T, word uint32) string {
	t.Helper()
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], word)
	inst, err := arm64asm.Decode(b[:])
	if err != nil {
		t.Fatalf("%08x: %v", word, err)
	}
	return normal(arm64asm.GNUSyntax(inst))
}

var hex = regexp.MustCompile(`#0x[0-9a-f]+`)

// normal is the text without spaces, and with decimal numbers.
func normal(text string) string {
	return hex.ReplaceAllStringFunc(strings.ReplaceAll(text, " ", ""), func(s string) string {
		n, err := strconv.ParseUint(s[3:], 16, 32)
		if err != nil {
			panic(err)
		}
		return "#" + strconv.FormatUint(n, 10)
	})
}

// operands returns operands of these kinds, whose numbers the fields allow.
func operands(r *rand.Rand, kinds string, fields []field) (out []Operand) {
	number := func(i int) int {
		f := fields[i]
		n := f.min + r.IntN(f.max-f.min+1)
		if f.name == "offset" {
			n = n / 16 * 16
		}
		return n
	}
	kinds = strings.ReplaceAll(kinds, "{16b,16b}", "list")
	kinds = strings.ReplaceAll(kinds, "[x],#", "post")
	for kind := range strings.SplitSeq(kinds, ",") {
		n := number(len(out))
		switch kind {
		case "list":
			n = min(n, 30)
			out = append(out, Pair(V(n), V(n+1)))
		case "post":
			out = append(out, R(n%18).Post(number(len(out)+1))...)
		case "#":
			out = append(out, Imm(n))
		case "lsl8":
			out = append(out, High8)
		case "s[0]":
			out = append(out, V(n).S0())
		case "w", "x", "q", "d", "s", "h":
			out = append(out, scalar(kind, n%31))
		default:
			out = append(out, vector(V(n), kind))
		}
	}
	return out
}

// Every instruction of the table, with many operands.
func TestTable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for key, e := range table {
		mnemonic, kinds, _ := strings.Cut(key, " ")
		for range 200 {
			word, text := Encode(mnemonic, operands(r, kinds, e.fields)...)
			if got := disassemble(t, word); got != normal(text) {
				t.Errorf("%08x is encoded for %q and is %q", word, text, got)
				break
			}
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	v := V(1)
	for name, f := range map[string]func(){
		"an unknown instruction": func() { Encode("fmul", v.H8(), v.H8(), v.H8()) },
		"a register too many":    func() { Encode("fmul", v.S4(), v.S4(), V(32).S4()) },
		"a shift too far":        func() { Encode("ushr", v.S4(), v.S4(), Imm(33)) },
		"an odd offset":          func() { Encode("ldp", append([]Operand{v.Q(), v.Q()}, R(1).Post(8)...)...) },
		"an offset too far":      func() { Encode("ldp", append([]Operand{v.Q(), v.Q()}, R(1).Post(1024)...)...) },
		"a list with a gap":      func() { Pair(v, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}

// Every WORD of the generated files is what its comment says.
func TestGeneratedFiles(t *testing.T) {
	line := regexp.MustCompile(`^\tWORD \$0x([0-9a-f]{8}) // (.*)$`)
	words := 0
	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_arm64.s") {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			m := line.FindStringSubmatch(s.Text())
			if m == nil {
				if strings.Contains(s.Text(), "WORD") {
					t.Errorf("%s: no comment: %s", path, s.Text())
				}
				continue
			}
			word, err := strconv.ParseUint(m[1], 16, 32)
			if err != nil {
				return err
			}
			words++
			if got := disassemble(t, uint32(word)); got != normal(m[2]) {
				t.Errorf("%s: %s is %q", path, s.Text(), got)
			}
		}
		return nil
	})
	if err != nil || words == 0 {
		t.Fatalf("%d words, %v", words, err)
	}
}
