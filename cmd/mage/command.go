package main

import (
	"os"
	"slices"
	"strings"
	"time"
)

// command is what the words of a command line ask for.
type command struct {
	dir, workDir string // of the magefiles; of the commands
	force        bool
	set          []string // further environment
	words        []string // for the program
}

// parse reads mage's options and reports whether they are no more than to run commands,
// list them or describe one.
func parse(args []string) (c command, ok bool) {
	c.dir = "."
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		name, value, given := strings.Cut(strings.TrimPrefix(args[0][1:], "-"), "=")
		args = args[1:]
		if takesValue := slices.Contains([]string{"d", "w", "t"}, name); takesValue && !given && len(args) > 0 {
			value, args = args[0], args[1:]
		} else if takesValue != given {
			return c, false
		}
		if !c.option(name, value) {
			return c, false
		}
	}
	if c.workDir == "" {
		c.workDir = c.dir
	}
	c.words = args
	help := slices.Contains(c.set, "MAGEFILE_HELP=1")
	return c, !help || len(args) == 1
}

func (c *command) option(name, value string) bool {
	switch name {
	case "d":
		c.dir = value
	case "w":
		c.workDir = value
	case "t":
		if _, err := time.ParseDuration(value); err != nil {
			return false
		}
		c.set = append(c.set, "MAGEFILE_TIMEOUT="+value)
	case "f":
		c.force = true
	case "v":
		c.set = append(c.set, "MAGEFILE_VERBOSE=1")
	case "l":
		c.set = append(c.set, "MAGEFILE_LIST=1")
	case "h":
		c.set = append(c.set, "MAGEFILE_HELP=1")
	default:
		return false
	}
	return name != "d" || value != ""
}

// environment is what mage gives to the programs that it starts. Of two variables of one
// name the first would count: a command that runs below another has that one's.
func (c *command) environment() []string {
	own := append(slices.Clone(c.set), "MAGEFILE_GOCMD="+goCommand())
	env := slices.DeleteFunc(os.Environ(), func(kept string) bool {
		name, _, _ := strings.Cut(kept, "=")
		return name == moduleVariable || slices.ContainsFunc(own, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	})
	return append(env, own...)
}
