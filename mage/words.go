package mage

import (
	"slices"
	"strings"
)

// behindDashes are the words behind "--" of mage run, which are for QEMU.
var behindDashes []string

// runValues are the options of mage run that have a value.
var runValues = []string{"machine", "forward", "settle", "logs", "events"}

// runWords rewrites the command line of mage run for mage, which knows -name=value only and
// each option once: values may be words of their own, and --forward may be given several
// times. It takes off what stands behind "--". Other command lines stay as they are.
func runWords(args []string) (words, behind []string) {
	if len(args) < 2 || !strings.EqualFold(args[1], "run") {
		return args, nil
	}
	if i := slices.Index(args, "--"); i >= 0 {
		args, behind = args[:i], args[i+1:]
	}
	forward := -1 // where the first --forward is in words
	for i := 0; i < len(args); i++ {
		word := args[i]
		name, given, ok := option(word)
		if ok && !given && i+1 < len(args) {
			i++
			word += "=" + args[i]
		}
		switch {
		case name != "forward":
			words = append(words, word)
		case forward < 0:
			forward = len(words)
			words = append(words, word)
		default:
			_, more, _ := strings.Cut(word, "=")
			words[forward] += "," + more
		}
	}
	return words, behind
}

// exportWords joins the containers of mage export, since a command of mage has a fixed
// number of words. Other command lines stay as they are.
func exportWords(args []string) []string {
	if len(args) < 4 || !strings.EqualFold(args[1], "export") {
		return args
	}
	end := slices.IndexFunc(args, func(word string) bool { return strings.HasPrefix(word, "-") })
	if end < 0 {
		end = len(args)
	}
	return slices.Concat(args[:2], []string{strings.Join(args[2:end], ",")}, args[end:])
}

// option reports whether a word is an option of runValues, and whether it has its value.
func option(word string) (name string, given, ok bool) {
	plain, dashed := strings.CutPrefix(word, "-")
	name, _, given = strings.Cut(strings.TrimPrefix(plain, "-"), "=")
	name = strings.ToLower(name)
	if !dashed || !slices.Contains(runValues, name) {
		return "", false, false
	}
	return name, given, true
}
