package build

import "testing"

func TestStamp(t *testing.T) {
	for s, want := range map[Stamp]string{0: "2020-01-01 00:00:00", Epoch: "2020-01-01 00:00:00", FirstStamp: "1980-01-01 00:00:00", LastStamp: "2106-02-07 06:28:15"} {
		if got := s.Time().Format("2006-01-02 15:04:05"); got != want {
			t.Errorf("%d is %s, want %s", s, got, want)
		}
	}
}
