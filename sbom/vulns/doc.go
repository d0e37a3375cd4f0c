// Package vulns joins bills of materials with data about vulnerabilities: which of them affect a
// package of a part, and why that is so.
//
// Data are files of the user, read as streams; nothing is fetched:
//
//	tracker.go   Debian's security tracker (https://security-tracker.debian.org/tracker/data/json)
//	osv.go       OSV records (https://ossf.github.io/osv-schema/), alone, in directories and zips
//	cve.go       CVE records of version 5 of the Linux kernel, which name files of its source
//	vex.go       statements in OpenVEX and CycloneDX, and those in the bills of materials
//
// A [Scan] indexes the packages, takes the data one after the other and keeps only what concerns
// them. What cannot be decided, because versions cannot be compared or because nothing says whether
// a kernel has the code, is [Unknown] with the reason, never not affected.
package vulns
