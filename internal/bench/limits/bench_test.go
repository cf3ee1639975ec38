package limits

import "testing"

func BenchmarkPeak(b *testing.B) {
	for _, l := range loops() {
		b.Run(l.name, func(b *testing.B) {
			for b.Loop() {
				l.run(1 << 14)
			}
			b.ReportMetric(float64(b.N)*float64(l.macs)*(1<<14)/b.Elapsed().Seconds()/1e9, "GMAC/s")
		})
	}
}
