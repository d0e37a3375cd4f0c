package options

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
)

func TestDefaults(t *testing.T) {
	got, err := read([]string{"HOME=/root", "PV_SPEC_DIR=x", "PVR_MERGE_SRC="})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Options{Interactive: true, CacheSize: 20, Epoch: build.Epoch}, got); diff != "" {
		t.Error(diff)
	}
}

func TestValues(t *testing.T) {
	got, err := read([]string{
		"PVR_MERGE_SRC=/d/.pvr", "PANTAVISOR_DEBUG=yes", "PVR_USE_SRC_BSP=yes", "PV_BUILD_INTERACTIVE=false",
		"SOURCE_DATE_EPOCH=1700000000", "PV_LOCKED=yes", "PV_JOBS=3", "PV_CACHE_SIZE=7", "PV_VERIFY_CACHE=yes", "PV_MERGE_SBOM=.",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &Options{MergeSource: "/d/.pvr", Debug: true, UseSourceBSP: true, Epoch: 1700000000, Locked: true, Jobs: 3, CacheSize: 7, Verify: true, MergeSBOM: "."}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAllMistakesAreReported(t *testing.T) {
	_, err := read([]string{
		"PANTAVISOR_DEBUG=true", "PVR_USE_SRC_BSP=yes", "PV_BUILD_INTERACTIVE=no", "SOURCE_DATE_EPOCH=7", "PV_JOBS=-1", "PV_VERSION=a b", "PV_CACHE_SIZE=10G", "PV_BUILDER_ID=runner 7",
		"PVR_MERGE_SCR=x", "PV_PVS_CERT_PEM=/nowhere/cert", "PV_MERGE_SBOM=/nowhere/sboms",
	})
	if err == nil || fault.Of(err) != fault.BadInput {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		`PANTAVISOR_DEBUG="true": want yes or no`, "needs PVR_MERGE_SRC", `PV_BUILD_INTERACTIVE="no": want true or false`,
		`SOURCE_DATE_EPOCH="7": want a whole number from 315532800`, "PV_JOBS", `PV_VERSION="a b": want`, `PV_BUILDER_ID="runner 7": want a URI`, "PV_CACHE_SIZE", "PVR_MERGE_SCR: unknown; did you mean PVR_MERGE_SRC or", "/nowhere/cert", "PV_MERGE_SBOM: stat /nowhere/sboms",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
}

func TestPipeline(t *testing.T) {
	t.Parallel()
	want := Pipeline{Project: "group/board", Branch: "main", Commit: "0123abc", ID: "42"}
	for _, environ := range [][]string{
		{"CI_PROJECT_PATH=group/board", "CI_COMMIT_REF_NAME=main", "CI_COMMIT_SHA=0123abc", "CI_PIPELINE_ID=42"},
		{"GITHUB_REPOSITORY=group/board", "GITHUB_REF_NAME=main", "GITHUB_SHA=0123abc", "GITHUB_RUN_ID=42"},
	} {
		o, err := read(environ)
		if err != nil || o.Pipeline != want {
			t.Errorf("%v, %v", o, err)
		}
	}
}

func TestReplacedVariablesAreNoted(t *testing.T) {
	t.Parallel()
	o, err := read([]string{"MAKEFLAGS=V=s -j1", "PV_BUILD_TLS_USE_HOST_CACERTS=default", "PV_BUILD_PANTAVISOR_BUILDER_PREFIX=mirror.example", "PV_BUILD_PANTAVISOR_BUILDER_VERSION=001"})
	if err != nil || len(o.Notes) != 4 {
		t.Errorf("%q, %v", o.Notes, err)
	}
	if o, err = read([]string{"MAKEFLAGS=w", "MAKELEVEL=1"}); err != nil || len(o.Notes) != 0 {
		t.Errorf("under make: %q, %v", o.Notes, err)
	}
	if _, err = read([]string{"PV_FACTORY_AUTOTOK=a b"}); err == nil {
		t.Error("a token of two words is taken")
	}
}
