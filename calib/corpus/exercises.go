package corpus

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// made is how many exercises there are.
const made = 220

// maker makes exercises from a fixed seed.
type maker struct{ *rand.Rand }

func pick[T any](m *maker, list []T) T { return list[m.IntN(len(list))] }

// Names, things and places of exercises.
var (
	people = []string{"Amara", "Jonas", "Mei", "Tomasz", "Leila", "Rui", "Ingrid", "Samuel", "Yuki", "Farid", "Clara", "Dmitri"}
	things = []string{"notebooks", "apples", "lamps", "tickets", "bottles", "chairs", "postcards", "batteries", "bricks", "umbrellas"}
	places = []string{"the library", "the harbour", "a workshop", "the school", "the bakery", "a warehouse", "the museum", "the station"}
	verbs  = []string{"load", "parse", "count", "merge", "rotate", "resolve", "schedule", "filter"}
	nouns  = []string{"orders", "sensors", "invoices", "routes", "pages", "tokens", "shards", "samples"}
	guests = []string{"小林", "老周", "阿梅", "陈老师", "王工", "小何"}
	goods  = []string{"苹果", "练习本", "雨伞", "电池", "茶杯", "邮票"}
)

// exercises returns all of them, always the same.
func exercises() []string {
	m := &maker{rand.New(rand.NewPCG(17, 2026))}
	kinds := []func(*maker) string{purchase, journey, table, function, record, chinese, sequence, dialogue, logic, series}
	out := make([]string, made)
	for i := range out {
		out[i] = kinds[i%len(kinds)](m)
	}
	return out
}

func purchase(m *maker) string {
	who, what, n, price, paid := pick(m, people), pick(m, things), 3+m.IntN(40), 2+m.IntN(30), 100*(1+m.IntN(15))
	for n*price > paid {
		paid += 100
	}
	return fmt.Sprintf("Question: %s buys %d %s for %s at %d each and pays with %d. How much change is there?\n"+
		"Answer: %d times %d is %d. %d minus %d is %d, so the change is %d.", who, n, what, pick(m, places), price, paid, n, price, n*price, paid, n*price, paid-n*price, paid-n*price)
}

func journey(m *maker) string {
	km, speed := 30*(2+m.IntN(20)), 10*(3+m.IntN(9))
	return fmt.Sprintf("%s drives %d kilometres from %s to %s at %d kilometres an hour. The drive takes %d/%d = %.2f hours, "+
		"that is %d hours and %d minutes. With a rest of %d minutes it takes %.2f hours.",
		pick(m, people), km, pick(m, places), pick(m, places), speed, km, speed, float64(km)/float64(speed), km/speed, km%speed*60/speed, 15, float64(km)/float64(speed)+0.25)
}

func table(m *maker) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | stock | sold | left |\n|---|---|---|---|\n", pick(m, []string{"article", "item", "product"}))
	total := 0
	for range 3 + m.IntN(3) {
		stock := 20 + m.IntN(400)
		sold := m.IntN(stock)
		total += stock - sold
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", pick(m, things), stock, sold, stock-sold)
	}
	return fmt.Sprintf("%sIn all, %d pieces are left.", b.String(), total)
}

func function(m *maker) string {
	verb, noun, field := pick(m, verbs), pick(m, nouns), pick(m, []string{"size", "age", "weight", "priority", "length"})
	limit := 1 + m.IntN(900)
	if m.IntN(2) == 0 {
		return fmt.Sprintf("def %s_%s(%s, limit=%d):\n    kept = [x for x in %s if x.%s <= limit]\n    if not kept:\n        raise LookupError(\"no %s below %%d\" %% limit)\n"+
			"    return sorted(kept, key=lambda x: (x.%s, x.name))", verb, noun, noun, limit, noun, field, noun, field)
	}
	one := strings.TrimSuffix(noun, "s")
	return fmt.Sprintf("func %s(%s []%s) (kept []%s, err error) {\n\tfor i, x := range %s {\n\t\tif x.%s > %d {\n\t\t\treturn nil, fmt.Errorf(\"%s %%d: %s %%v\", i, x.%s)\n\t\t}\n"+
		"\t\tkept = append(kept, x)\n\t}\n\treturn kept, nil\n}", verb, noun, one, one, noun, field, limit, one, field, field)
}

func record(m *maker) string {
	return fmt.Sprintf(`{"id": %d, "name": %q, "place": %q, "tags": [%q, %q], "score": %.3f, "active": %t, "since": "20%02d-%02d-%02dT%02d:%02d:00Z"}`,
		1000+m.IntN(90000), pick(m, people), pick(m, places), pick(m, nouns), pick(m, things), m.Float64()*10, m.IntN(2) == 0, 10+m.IntN(15), 1+m.IntN(12), 1+m.IntN(28), m.IntN(24), m.IntN(60))
}

func chinese(m *maker) string {
	n, k := 4+m.IntN(30), 2+m.IntN(9)
	rest := m.IntN(k)
	return fmt.Sprintf("问：%s有%d个%s，要平均分给%d个人，每人几个，还剩几个？\n答：%d除以%d等于%d，余%d。每人%d个，还剩%d个。", pick(m, guests), n*k+rest, pick(m, goods), k, n*k+rest, k, n, rest, n, rest)
}

func sequence(m *maker) string {
	a, d := m.IntN(50), 2+m.IntN(13)
	return fmt.Sprintf("The sequence %d, %d, %d, %d, … grows by %d each time. Its n-th member is %d + %d·(n − 1); the twentieth is %d, and the first twenty add up to %d.",
		a, a+d, a+2*d, a+3*d, d, a, d, a+19*d, 10*(2*a+19*d))
}

func dialogue(m *maker) string {
	a, b, what, where, hour := pick(m, people), pick(m, people), pick(m, things), pick(m, places), 7+m.IntN(12)
	return fmt.Sprintf("<|user|>\nCan you remind %s that the %s have to be at %s by %d o'clock?<|assistant|>\nOf course. \"Dear %s, the %s are expected at %s by %d o'clock. Best wishes, %s.\" Shall I send it now?",
		a, what, where, hour, a, what, where, hour, b)
}

func logic(m *maker) string {
	p := m.Perm(len(people))
	a, b, c := people[p[0]], people[p[1]], people[p[2]]
	return fmt.Sprintf("%s is taller than %s, and %s is taller than %s. Who is the shortest? Since %s > %s > %s, it is %s. Nothing is said of how much taller anybody is.", a, b, b, c, a, b, c, c)
}

func series(m *maker) string {
	var b strings.Builder
	fmt.Fprintf(&b, "time,%s,%s\n", pick(m, nouns), pick(m, things))
	v := 10 + 80*m.Float64()
	for h := range 5 + m.IntN(5) {
		v += 4*m.Float64() - 2
		fmt.Fprintf(&b, "%02d:%02d,%.2f,%d\n", h+6, 15*m.IntN(4), v, m.IntN(500))
	}
	return strings.TrimSpace(b.String())
}
