package vulns

import (
	"strings"

	cvss20 "github.com/pandatix/go-cvss/20"
	cvss30 "github.com/pandatix/go-cvss/30"
	cvss31 "github.com/pandatix/go-cvss/31"
	cvss40 "github.com/pandatix/go-cvss/40"
)

// maxVector bounds a vector of CVSS, in bytes.
const maxVector = 1024

// rated returns the worst severity of vectors of CVSS, by the bands of its version 3.1, section 5.
func rated(list []osvSeverity) string {
	out := ""
	for _, s := range list {
		if len(s.Score) > maxVector {
			continue
		}
		if score, ok := scored(s.Score); ok {
			out = worse(out, band(score))
		} else {
			out = worse(out, severityOf(s.Score)) // Ubuntu has words
		}
	}
	return out
}

// scored returns the base score of a vector.
func scored(vector string) (float64, bool) {
	switch {
	case strings.HasPrefix(vector, "CVSS:4.0/"):
		if v, err := cvss40.ParseVector(vector); err == nil {
			return v.Score(), true
		}
	case strings.HasPrefix(vector, "CVSS:3.1/"):
		if v, err := cvss31.ParseVector(vector); err == nil {
			return v.BaseScore(), true
		}
	case strings.HasPrefix(vector, "CVSS:3.0/"):
		if v, err := cvss30.ParseVector(vector); err == nil {
			return v.BaseScore(), true
		}
	case strings.HasPrefix(vector, "AV:"):
		if v, err := cvss20.ParseVector(vector); err == nil {
			return v.BaseScore(), true
		}
	}
	return 0, false
}

func band(score float64) string {
	switch {
	case score >= 9:
		return "critical"
	case score >= 7:
		return "high"
	case score >= 4:
		return "medium"
	case score > 0:
		return "low"
	}
	return "negligible"
}
