package mage

import (
	"slices"
	"strings"
)

// behindDashes are the words behind "--" of mage run, which are for QEMU.
var behindDashes []string

// valued are the options with a value, of all commands.
var valued = []string{
	"artefacts", "bitbake", "boots", "channel", "compare", "container", "data", "dns", "events", "failon", "format", "forward", "from", "hostname", "html", "hub", "ifname", "ipv4", "ipv6", "junit", "key", "kills", "logs",
	"machine", "meta", "module", "nettype", "oecore", "only", "out", "parts", "platform", "record", "results", "settle", "sign", "signcmd", "signinput",
	"signpub", "source", "span", "sshkey", "svg",
	"target", "to", "token", "tree", "unset", "version", "vex", "wifi", "wifipassword", "wifisecurity",
}

// several are the commands that take any number of words.
var several = []string{"export", "release"}

// arguments are the numbers of words that commands need, and at least one of those in several.
var arguments = map[string]int{
	"appengine:add": 1, "appengine:run": 1, "build": 1, "clean": 1, "component": 2, "compose": 1, "device": 2, "diff": 2, "export": 1, "flash": 2,
	"init": 1, "inputs": 2, "kernel:check": 1, "lock": 1, "parts:export": 2, "parts:import": 1, "personalize": 1, "plan": 1, "release": 1, "run": 1, "sbom": 1, "size": 1, "verify": 2,
	"cra": 1, "vulns": 1, "why": 2,
}

// optional are the commands whose last word may be left out.
var optional = []string{"appengine:run", "verify"}

// argumentWords moves the options of a command behind its arguments, where mage wants them.
// Where arguments are missing, it leaves the options out: mage would take them as arguments
// and, without them, says how many are missing.
func argumentWords(args []string) []string {
	if len(args) < 2 {
		return args
	}
	command := strings.ToLower(args[1])
	words, options, i := slices.Clone(args[:2]), []string(nil), 2
	for ; i < len(args) && args[i] != "--" && wanted(command, len(words)-2); i++ {
		if strings.HasPrefix(args[i], "-") {
			options = append(options, args[i])
		} else {
			words = append(words, args[i])
		}
	}
	switch missing := arguments[command] > len(words)-2; {
	case len(words)-2 == arguments[command]-1 && slices.Contains(optional, command):
		words = append(words, "")
	case missing:
		options = nil
	}
	return slices.Concat(words, options, args[i:])
}

// wanted reports whether a command takes more arguments than those given.
func wanted(command string, given int) bool {
	return slices.Contains(several, command) || given < arguments[command]
}

// optionWords joins options and their values, which may be words of their own, for mage,
// which knows -name=value only, and joins the words of their names. Words behind "--" stay as they are.
func optionWords(args []string) (words []string) {
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			return append(words, args[i:]...)
		}
		word := args[i]
		if i > 1 {
			word = undashed(word)
		}
		if _, given, ok := option(word); i > 1 && ok && !given && i+1 < len(args) && isValue(args[i+1]) {
			i++
			word += "=" + args[i]
		}
		words = append(words, word)
	}
	return words
}

// undashed removes the dashes in an option's name, --fail-on: names of mage's options are those of
// parameters in Go.
func undashed(word string) string {
	dashed := strings.TrimLeft(word, "-")
	if dashed == word || dashed == "" {
		return word
	}
	name, value, given := strings.Cut(dashed, "=")
	word = strings.TrimSuffix(word, dashed) + strings.ReplaceAll(name, "-", "")
	if given {
		word += "=" + value
	}
	return word
}

// isValue reports whether a word can be the value of an option: not an option itself.
func isValue(word string) bool { return word == "-" || !strings.HasPrefix(word, "-") }

// runWords takes off what stands behind "--" of mage run. Other command lines stay as they
// are.
func runWords(args []string) (words, behind []string) {
	if len(args) < 2 || !strings.EqualFold(args[1], "run") {
		return args, nil
	}
	if i := slices.Index(args, "--"); i >= 0 {
		args, behind = args[:i], args[i+1:]
	}
	return joinRepeated(args, "forward", ","), behind
}

// distWords joins the platforms of mage dist. Other command lines stay as they are.
func distWords(args []string) []string {
	if len(args) < 2 || !strings.EqualFold(args[1], "dist") {
		return args
	}
	return joinRepeated(args, "platform", ",")
}

// between separates values that may have any character: no argument of a process has a NUL.
const between = "\x00"

// personalizeWords joins the values of mage personalize that may be given several times; values
// have commas and several lines. Other command lines stay as they are.
func personalizeWords(args []string) []string {
	if len(args) < 2 || !strings.EqualFold(args[1], "personalize") {
		return args
	}
	return joinRepeated(joinRepeated(args, "meta", between), "unset", between)
}

// joinRepeated joins the values of an option that is given several times, with a separator: mage
// knows each option once.
func joinRepeated(args []string, repeated, separator string) (words []string) {
	first := -1 // where it is in words
	for _, word := range args {
		switch name, _, _ := option(word); {
		case name != repeated:
			words = append(words, word)
		case first < 0:
			first = len(words)
			words = append(words, word)
		default:
			_, more, _ := strings.Cut(word, "=")
			words[first] += separator + more
		}
	}
	return words
}

// severalWords joins the words of commands that take any number, containers of mage export and
// targets of mage release, since a command of mage has a fixed number of words. Other command lines
// stay as they are.
func severalWords(args []string) []string {
	if len(args) < 4 || !slices.Contains(several, strings.ToLower(args[1])) {
		return args
	}
	end := slices.IndexFunc(args, func(word string) bool { return strings.HasPrefix(word, "-") })
	if end < 0 {
		end = len(args)
	}
	return slices.Concat(args[:2], []string{strings.Join(args[2:end], ",")}, args[end:])
}

// option reports whether a word is an option with a value, and whether the value is in it.
func option(word string) (name string, given, ok bool) {
	plain, dashed := strings.CutPrefix(word, "-")
	name, _, given = strings.Cut(strings.TrimPrefix(plain, "-"), "=")
	name = strings.ToLower(name)
	if !dashed || !slices.Contains(valued, name) {
		return "", false, false
	}
	return name, given, true
}
