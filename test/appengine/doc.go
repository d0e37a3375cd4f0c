// Package appengine runs tests in App Engine instances (manual: Pantavisor Test
// Framework). A test is a directory with a test.json, GROUP/data/NAME below a directory of
// suites; its number is its place among the names of the group.
//
//	GROUP/common/                what the tests of a group share: configurations, certificates
//	GROUP/data/NAME/test.json    setup and scripts, see [Spec]
//	GROUP/data/NAME/resources/   the scripts
//	GROUP/data/NAME/output/      the recorded result
//
// Each test gets an installation of its own, made by the package's install script,
// and an environment of its own: mount, PID, network, IPC and UTS namespaces, a
// control group, and process 1, which is this program again (see [Inside]). When
// that process ends, the kernel ends everything of the test.
//
// The scripts find the installation's programs on their PATH and these variables:
//
//	PVTEST_PREFIX    directory of the installation
//	PVTEST_CONTROL   the control container's name
//	PVTEST_IN        "pventer -c CONTROL": runs a command in the control container
//	PVTEST_TMP       an empty directory
package appengine
