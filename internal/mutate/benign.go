package mutate

// Benign lists changes that alter nothing of what a result answers: what other
// tools, libraries and hubs do to a folder. None of them may be called a fault.
func Benign() []Fault {
	var out []Fault
	for _, group := range []struct {
		name string
		list []Fault
	}{{"files", sameFiles()}, {"JSON", sameJSON()}, {"configuration", sameConfig()}, {"tokenizer", sameTokenizer()}, {"settings", sameSettings()}, {"declaration", sameDeclaration()}, {"rounding", sameRounding()}} {
		for _, f := range group.list {
			f.Group = group.name
			out = append(out, f)
		}
	}
	return out
}
