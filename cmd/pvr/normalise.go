package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pantavisor/pantavisor/internal/spelling"
)

// normalise rewrites a command line in the tool's customary syntax to what the
// flag parser reads: one dash and two mean the same, for short and for long names.
// Flags of a level stand before the next command's word; behind the last command's
// word they may stand anywhere.
func normalise(root *cobra.Command, words []string) ([]string, error) {
	if len(words) > 0 && strings.HasPrefix(words[0], "__complete") {
		return words, nil
	}
	var out []string
	cmd := root
	for len(words) > 0 {
		word := words[0]
		if word == "--" {
			return append(out, words...), nil
		}
		if isFlag(word) {
			n, text := flagWords(cmd, words)
			out, words = append(out, text...), words[n:]
			continue
		}
		sub := subcommand(cmd, word)
		if sub == nil && cmd.HasSubCommands() {
			return nil, unknownCommand(cmd, word)
		}
		if sub != nil {
			cmd, word = sub, sub.Name()
		}
		out, words = append(out, word), words[1:]
	}
	return out, nil
}

func isFlag(word string) bool { return len(word) > 1 && word[0] == '-' }

func subcommand(cmd *cobra.Command, word string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == word || sub.HasAlias(word) {
			return sub
		}
	}
	return nil
}

// unknownCommand returns the error for a word that is not a command below cmd, with those
// of a similar name.
func unknownCommand(cmd *cobra.Command, word string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	hint := ""
	if near := spelling.Nearest(word, names); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return failf(3, "No help topic for '%s'%s", word, hint)
}

// flagWords returns how many words belong to a flag, and the flag in the parser's
// spelling. What is unknown stays, for the parser to complain about.
func flagWords(cmd *cobra.Command, words []string) (int, []string) {
	name, value, hasValue := strings.Cut(strings.TrimLeft(words[0], "-"), "=")
	flag := findFlag(cmd, name)
	switch {
	case flag == nil:
		return 1, words[:1]
	case hasValue:
		return 1, []string{"--" + flag.Name + "=" + value}
	case flag.NoOptDefVal != "" || len(words) == 1:
		return 1, []string{"--" + flag.Name}
	}
	return 2, []string{"--" + flag.Name + "=" + words[1]}
}

// aliases are further names of flags, by command.
var aliases = map[string]map[string]string{
	"checkout": {"hl": "hardlink"},
	"add":      {"parts": "part"},
	"ls":       {"with-sig": "with-sigs", "parts": "part"},
	"logs":     {"src": "source"},
}

func findFlag(cmd *cobra.Command, name string) *pflag.Flag {
	cmd.InitDefaultHelpFlag()
	if real, ok := aliases[cmd.Name()][name]; ok && cmd.Flags().Lookup(real) != nil {
		name = real
	}
	if f := cmd.Flags().Lookup(name); f != nil {
		return f
	}
	if len(name) == 1 {
		return cmd.Flags().ShorthandLookup(name)
	}
	return nil
}
