package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/revision/repo"
)

// remoteSource opens a remote repository.
func (t *tool) remoteSource(ref repo.Ref) (repo.Source, error) {
	return nil, fmt.Errorf("%s: remotes are not supported yet", ref.URL)
}

func remoteCommands(*tool) []*cobra.Command { return nil }

func appCommands(*tool) []*cobra.Command { return nil }
