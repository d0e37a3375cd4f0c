package config

import "math"

// Key is one configuration key: an index into the table of this file.
type Key uint8

// The keys, in the order in which lists show them. Their meaning is in
// the table below and is returned by [Key.Doc].
const (
	CredsHost                   Key = iota // PH_CREDS_HOST
	CredsID                                // PH_CREDS_ID
	CredsPort                              // PH_CREDS_PORT
	CredsProxyHost                         // PH_CREDS_PROXY_HOST
	CredsProxyNoProxyConnect               // PH_CREDS_PROXY_NOPROXYCONNECT
	CredsProxyPort                         // PH_CREDS_PROXY_PORT
	CredsPRN                               // PH_CREDS_PRN
	CredsSecret                            // PH_CREDS_SECRET
	CredsType                              // PH_CREDS_TYPE
	FactoryAutotok                         // PH_FACTORY_AUTOTOK
	HTTPTimeout                            // PH_LIBEVENT_HTTP_TIMEOUT
	HTTPRetries                            // PH_LIBEVENT_HTTP_RETRIES
	DevmetaInterval                        // PH_METADATA_DEVMETA_INTERVAL
	UsrmetaInterval                        // PH_METADATA_USRMETA_INTERVAL
	OnlineRequestThreshold                 // PH_ONLINE_REQUEST_THRESHOLD
	UpdaterInterval                        // PH_UPDATER_INTERVAL
	UpdaterNetworkTimeout                  // PH_UPDATER_NETWORK_TIMEOUT
	UpdaterTransferMaxCount                // PH_UPDATER_TRANSFER_MAX_COUNT
	BootloaderFitConfig                    // PV_BOOTLOADER_FITCONFIG
	BootloaderMTDEnv                       // PV_BOOTLOADER_MTD_ENV
	BootloaderMTDOnly                      // PV_BOOTLOADER_MTD_ONLY
	BootloaderType                         // PV_BOOTLOADER_TYPE
	BootloaderAName                        // PV_BOOTLOADER_UBOOTAB_A_NAME
	BootloaderBName                        // PV_BOOTLOADER_UBOOTAB_B_NAME
	BootloaderEnvName                      // PV_BOOTLOADER_UBOOTAB_ENV_NAME
	BootloaderEnvBakName                   // PV_BOOTLOADER_UBOOTAB_ENV_BAK_NAME
	BootloaderEnvOffset                    // PV_BOOTLOADER_UBOOTAB_ENV_OFFSET
	BootloaderEnvSize                      // PV_BOOTLOADER_UBOOTAB_ENV_SIZE
	CacheDevmetaDir                        // PV_CACHE_DEVMETADIR
	CacheUsrmetaDir                        // PV_CACHE_USRMETADIR
	ControlRemote                          // PV_CONTROL_REMOTE
	ControlRemoteAlways                    // PV_CONTROL_REMOTE_ALWAYS
	DebugShell                             // PV_DEBUG_SHELL
	DebugShellAutologin                    // PV_DEBUG_SHELL_AUTOLOGIN
	DebugShellTimeout                      // PV_DEBUG_SHELL_TIMEOUT
	DebugSSH                               // PV_DEBUG_SSH
	DebugSSHAuthorizedKeys                 // PV_DEBUG_SSH_AUTHORIZED_KEYS
	DiskExportsDir                         // PV_DISK_EXPORTSDIR
	DiskVolDir                             // PV_DISK_VOLDIR
	DiskWritableDir                        // PV_DISK_WRITABLEDIR
	DropbearCacheDir                       // PV_DROPBEAR_CACHE_DIR
	LibeventDebugMode                      // PV_LIBEVENT_DEBUG_MODE
	CertsDir                               // PV_LIBTHTTP_CERTSDIR
	HTTPLogLevel                           // PV_LIBTHTTP_LOG_LEVEL
	LogAutoDevlog                          // PV_LOG_AUTO_DEVLOG
	LogCapture                             // PV_LOG_CAPTURE
	LogCaptureDmesg                        // PV_LOG_CAPTURE_DMESG
	LogBufNitems                           // PV_LOG_BUF_NITEMS
	LogDir                                 // PV_LOG_DIR
	LogDirMaxSize                          // PV_LOG_DIR_MAXSIZE
	LogFiletreeTimestamp                   // PV_LOG_FILETREE_TIMESTAMP_FORMAT
	LogHysteresisFactor                    // PV_LOG_HYSTERESIS_FACTOR
	LogLevel                               // PV_LOG_LEVEL
	LogLoggers                             // PV_LOG_LOGGERS
	LogPush                                // PV_LOG_PUSH
	LogRotateFactor                        // PV_LOG_ROTATE_FACTOR
	LogServerOutputs                       // PV_LOG_SERVER_OUTPUTS
	LogSinglefileTimestamp                 // PV_LOG_SINGLEFILE_TIMESTAMP_FORMAT
	LogStdoutTimestamp                     // PV_LOG_STDOUT_TIMESTAMP_FORMAT
	LogTimestamp                           // PV_LOG_TIMESTAMP
	LoopIndexBase                          // PV_LOOP_INDEX_BASE
	LXCLogLevel                            // PV_LXC_LOG_LEVEL
	NetBrAddress4                          // PV_NET_BRADDRESS4
	NetBrDev                               // PV_NET_BRDEV
	NetBrMask4                             // PV_NET_BRMASK4
	OEMName                                // PV_OEM_NAME
	PolicyName                             // PV_POLICY
	PowerMode                              // PV_POWER_MODE
	PowerDevmetaEagerPush                  // PV_POWER_DEVMETA_EAGER_PUSH
	PowerWakeInterval                      // PV_POWER_WAKE_INTERVAL
	PowerWakeRunWindow                     // PV_POWER_WAKE_RUN_WINDOW
	PowerAutosleepSettle                   // PV_POWER_AUTOSLEEP_SETTLE
	PowerWakeMinAwake                      // PV_POWER_WAKE_MIN_AWAKE
	PowerWakeMaxAwake                      // PV_POWER_WAKE_MAX_AWAKE
	PowerDevmetaMaxHeld                    // PV_POWER_DEVMETA_MAX_HELD
	PowerSysfsDir                          // PV_POWER_SYSFS_DIR
	RevisionRetries                        // PV_REVISION_RETRIES
	SecurebootChecksum                     // PV_SECUREBOOT_CHECKSUM
	SecurebootHandlers                     // PV_SECUREBOOT_HANDLERS
	SecurebootMode                         // PV_SECUREBOOT_MODE
	SecurebootOEMTruststore                // PV_SECUREBOOT_OEM_TRUSTSTORE
	SecurebootTruststore                   // PV_SECUREBOOT_TRUSTSTORE
	StorageDevice                          // PV_STORAGE_DEVICE
	StorageFSType                          // PV_STORAGE_FSTYPE
	StorageGCKeepFactory                   // PV_STORAGE_GC_KEEP_FACTORY
	StorageGCReserved                      // PV_STORAGE_GC_RESERVED
	StorageGCThresholdDefertime            // PV_STORAGE_GC_THRESHOLD_DEFERTIME
	StorageGCThreshold                     // PV_STORAGE_GC_THRESHOLD
	StorageLogtempSize                     // PV_STORAGE_LOGTEMPSIZE
	StorageMntPoint                        // PV_STORAGE_MNTPOINT
	StorageMntType                         // PV_STORAGE_MNTTYPE
	StorageFirmwareVol                     // PV_STORAGE_FIRMWARE_VOL
	StoragePHConfigVol                     // PV_STORAGE_PHCONFIG_VOL
	StorageWait                            // PV_STORAGE_WAIT
	AppArmorProfiles                       // PV_SYSTEM_APPARMOR_PROFILES
	SystemConfDir                          // PV_SYSTEM_CONFDIR
	SystemDriversLoadEarlyAuto             // PV_SYSTEM_DRIVERS_LOAD_EARLY_AUTO
	SystemEtcDir                           // PV_SYSTEM_ETCDIR
	SystemEtcPantavisorDir                 // PV_SYSTEM_ETCPANTAVISORDIR
	SystemInitMode                         // PV_SYSTEM_INIT_MODE
	SystemLibDir                           // PV_SYSTEM_LIBDIR
	SystemMediaDir                         // PV_SYSTEM_MEDIADIR
	SystemMountSecurityfs                  // PV_SYSTEM_MOUNT_SECURITYFS
	SystemRunDir                           // PV_SYSTEM_RUNDIR
	SystemDisksDir                         // PV_SYSTEM_DISKSDIR
	SystemUsrDir                           // PV_SYSTEM_USRDIR
	UpdaterCommitDelay                     // PV_UPDATER_COMMIT_DELAY
	UpdaterGoalsTimeout                    // PV_UPDATER_GOALS_TIMEOUT
	UpdaterUseTmpObjects                   // PV_UPDATER_USE_TMP_OBJECTS
	VolmountDMExtraArgs                    // PV_VOLMOUNT_DM_EXTRA_ARGS
	WatchdogMode                           // PV_WDT_MODE
	WatchdogTimeout                        // PV_WDT_TIMEOUT
	XConnectDBusSystembus                  // PV_XCONNECT_DBUS_SYSTEMBUS_ENABLED
	RemountPolicy                          // PV_REMOUNT_POLICY
	SecurityDefaultRole                    // PV_SECURITY_DEFAULT_ROLE
	UpdaterTrials                          // PV_UPDATER_TRIALS
	keys
)

// Values of the enumerations, in the order of their numbers in GET /config.
var (
	bootloaders     = []string{"uboot", "uboot-pvk", "uboot-ab", "rpiab", "grub", "extlinux", "efiab"}
	clocks          = []string{"relative", "absolute"}
	powerModes      = []string{"disabled", "locks", "managed"}
	securebootModes = []string{"disabled", "audit", "lenient", "strict"}
	initModes       = []string{"embedded", "standalone", "appengine"}
	watchdogModes   = []string{"disabled", "shutdown", "startup", "always"}
	defaultRoles    = []string{"nobody", "mgmt"}
	// logOutputs are the bits of PV_LOG_SERVER_OUTPUTS, from bit 0.
	logOutputs = []string{"nullsink", "singlefile", "filetree", "stdout",
		"stdout.containers", "stdout.pantavisor", "stdout_direct"}
)

// span are the numbers from least to most.
type span struct{ least, most int }

// The spans of most numbers.
var (
	natural  = span{0, math.MaxInt32}
	positive = span{1, math.MaxInt32}
	percent  = span{0, 100}
	ports    = span{1, 65535}
)

// spec is what is known of a key.
type spec struct {
	name    string   // PV_ or PH_ name, compared without case
	kind    kind     // how its text is read
	def     string   // text of the default; empty for text means unset
	choices []string // of kind choice
	form    *form    // of kind text, what it must look like; nil: anything
	in      span     // of kind number, the values that it may have
	levels  levelSet // where it may be set
	aliases []string // names of the deprecated syntax, in any case; GET /config shows the first
	secret  bool     // masked in lists
	doc     string   // one line for people
}

// misspelt are names that stand in the manual's tables but never were keys; they
// are taken with a note that gives the right name.
var misspelt = map[string]Key{
	"PV_LIBTHHTTP_CERTSDIR":   CertsDir,
	"PV_LIBTHHTTP_LOG_LEVEL":  HTTPLogLevel,
	"PV_LOG_MAXSIZE":          LogDirMaxSize,
	"PV_STORAGE_LOGTEMP_SIZE": StorageLogtempSize,
	"LIBHTTP.CERTSDIR":        CertsDir,
	"LIBHTTP.LOG.LEVEL":       HTTPLogLevel,
	"LOG.MAXSIZE":             LogDirMaxSize,
	"LOG.LOGGER":              LogLoggers,
	"UPDATER.COMMIT_DELAY":    UpdaterCommitDelay,
}

// table has one row a key (manual: Pantavisor Configuration, summary and levels).
var table = [keys]spec{
	CredsHost: {name: "PH_CREDS_HOST", kind: text, def: "api.pantahub.com", levels: hub | oem, aliases: []string{"creds.host"},
		doc: "address of the Hub"},
	CredsID: {name: "PH_CREDS_ID", kind: text, levels: hub | oem, aliases: []string{"creds.id"},
		doc: "identity of the device at the Hub"},
	CredsPort: {name: "PH_CREDS_PORT", kind: number, in: ports, def: "443", levels: hub | oem, aliases: []string{"creds.port"},
		doc: "port of the Hub"},
	CredsProxyHost: {name: "PH_CREDS_PROXY_HOST", kind: text, levels: hub | oem, aliases: []string{"creds.proxy.host"},
		doc: "address of a proxy to the Hub"},
	CredsProxyNoProxyConnect: {name: "PH_CREDS_PROXY_NOPROXYCONNECT", kind: number, in: span{0, 1}, def: "0", levels: hub | oem, aliases: []string{"creds.proxy.noproxyconnect"},
		doc: "1: speak plain HTTP to the proxy, no CONNECT"},
	CredsProxyPort: {name: "PH_CREDS_PROXY_PORT", kind: number, in: ports, def: "3218", levels: hub | oem, aliases: []string{"creds.proxy.port"},
		doc: "port of the proxy"},
	CredsPRN: {name: "PH_CREDS_PRN", kind: text, levels: hub | oem, aliases: []string{"creds.prn"},
		doc: "resource name of the device at the Hub"},
	CredsSecret: {name: "PH_CREDS_SECRET", kind: text, levels: hub | oem, aliases: []string{"creds.secret"}, secret: true,
		doc: "password of the device at the Hub; masked in lists"},
	CredsType: {name: "PH_CREDS_TYPE", kind: text, def: "builtin", levels: hub | oem, aliases: []string{"creds.type"},
		doc: "kind of credential"},
	FactoryAutotok: {name: "PH_FACTORY_AUTOTOK", kind: text, levels: hub | oem, aliases: []string{"factory.autotok"}, secret: true,
		doc: "token that claims the device by itself; masked in lists"},
	HTTPTimeout: {name: "PH_LIBEVENT_HTTP_TIMEOUT", kind: number, in: positive, def: "60", levels: hub | oem | live,
		doc: "seconds that a request to the Hub may take"},
	HTTPRetries: {name: "PH_LIBEVENT_HTTP_RETRIES", kind: number, in: natural, def: "1", levels: hub | oem | live,
		doc: "times that a request to the Hub is made again"},
	DevmetaInterval: {name: "PH_METADATA_DEVMETA_INTERVAL", kind: number, in: positive, def: "10", levels: hub | oem | live, aliases: []string{"metadata.devmeta.interval"},
		doc: "seconds between uploads of device metadata"},
	UsrmetaInterval: {name: "PH_METADATA_USRMETA_INTERVAL", kind: number, in: positive, def: "5", levels: hub | oem | live, aliases: []string{"metadata.usrmeta.interval"},
		doc: "seconds between downloads of user metadata"},
	OnlineRequestThreshold: {name: "PH_ONLINE_REQUEST_THRESHOLD", kind: number, in: natural, def: "0", levels: hub | oem | live,
		doc: "failed requests after which the device counts as offline"},
	UpdaterInterval: {name: "PH_UPDATER_INTERVAL", kind: number, in: positive, def: "60", levels: hub | oem | live, aliases: []string{"updater.interval"},
		doc: "seconds between questions for an update"},
	UpdaterNetworkTimeout: {name: "PH_UPDATER_NETWORK_TIMEOUT", kind: number, in: natural, def: "120", levels: hub | oem | live, aliases: []string{"updater.network_timeout"},
		doc: "seconds without the Hub after which an update is rolled back"},
	UpdaterTransferMaxCount: {name: "PH_UPDATER_TRANSFER_MAX_COUNT", kind: number, in: positive, def: "5", levels: hub | oem | live,
		doc: "objects in transfer at once"},
	BootloaderFitConfig: {name: "PV_BOOTLOADER_FITCONFIG", kind: text, levels: boot, aliases: []string{"bootloader.fitconfig"},
		doc: "configuration inside the FIT image"},
	BootloaderMTDEnv: {name: "PV_BOOTLOADER_MTD_ENV", kind: text, levels: boot, aliases: []string{"bootloader.mtd_env"},
		doc: "MTD partition where U-Boot keeps its mark or, with PV_BOOTLOADER_MTD_ONLY, all values; pv-env if there is one"},
	BootloaderMTDOnly: {name: "PV_BOOTLOADER_MTD_ONLY", kind: flag, def: "0", levels: boot, aliases: []string{"bootloader.mtd_only"},
		doc: "the values for U-Boot are in MTD and nowhere else"},
	BootloaderType: {name: "PV_BOOTLOADER_TYPE", kind: choice, def: "uboot", choices: bootloaders, levels: boot, aliases: []string{"bootloader.type"},
		doc: "uboot, uboot-pvk, uboot-ab, rpiab, grub, extlinux or efiab; the default is grub where the storage has boot/grubenv"},
	BootloaderAName: {name: "PV_BOOTLOADER_UBOOTAB_A_NAME", kind: text, def: "fitA", levels: boot,
		doc: "first partition of uboot-ab"},
	BootloaderBName: {name: "PV_BOOTLOADER_UBOOTAB_B_NAME", kind: text, def: "fitB", levels: boot,
		doc: "second partition of uboot-ab"},
	BootloaderEnvName: {name: "PV_BOOTLOADER_UBOOTAB_ENV_NAME", kind: text, levels: boot,
		doc: "partition of the U-Boot environment"},
	BootloaderEnvBakName: {name: "PV_BOOTLOADER_UBOOTAB_ENV_BAK_NAME", kind: text, levels: boot,
		doc: "partition of its copy"},
	BootloaderEnvOffset: {name: "PV_BOOTLOADER_UBOOTAB_ENV_OFFSET", kind: number, in: natural, def: "0", levels: boot,
		doc: "bytes from the partition's start to the environment"},
	BootloaderEnvSize: {name: "PV_BOOTLOADER_UBOOTAB_ENV_SIZE", kind: number, in: natural, def: "0", levels: boot,
		doc: "bytes of the environment; 0: up to the end of its partition"},
	CacheDevmetaDir: {name: "PV_CACHE_DEVMETADIR", kind: text, def: "/storage/cache/devmeta", levels: boot, aliases: []string{"cache.devmetadir"},
		doc: "directory of the kept device metadata"},
	CacheUsrmetaDir: {name: "PV_CACHE_USRMETADIR", kind: text, def: "/storage/cache/meta", levels: boot, aliases: []string{"cache.usrmetadir", "meta.cache.dir"},
		doc: "directory of the kept user metadata"},
	ControlRemote: {name: "PV_CONTROL_REMOTE", kind: flag, def: "1", levels: boot | oem, aliases: []string{"control.remote"},
		doc: "the Hub may control the device"},
	ControlRemoteAlways: {name: "PV_CONTROL_REMOTE_ALWAYS", kind: flag, def: "0", levels: boot | oem, aliases: []string{"control.remote.always"},
		doc: "also while a local revision runs"},
	DebugShell: {name: "PV_DEBUG_SHELL", kind: flag, def: "1", levels: boot | args, aliases: []string{"debug.shell"},
		doc: "shell on the console"},
	DebugShellAutologin: {name: "PV_DEBUG_SHELL_AUTOLOGIN", kind: flag, def: "0", levels: boot, aliases: []string{"debug.shell.autologin"},
		doc: "the shell opens without a key"},
	DebugShellTimeout: {name: "PV_DEBUG_SHELL_TIMEOUT", kind: number, in: natural, def: "60", levels: boot,
		doc: "seconds that an open shell may hold a reboot"},
	DebugSSH: {name: "PV_DEBUG_SSH", kind: flag, def: "1", levels: boot | oem | live, aliases: []string{"debug.ssh"},
		doc: "SSH server for finding defects"},
	DebugSSHAuthorizedKeys: {name: "PV_DEBUG_SSH_AUTHORIZED_KEYS", kind: text, levels: boot | oem | live, aliases: []string{"debug.ssh_authorized_keys"},
		doc: "file name of its keys"},
	DiskExportsDir: {name: "PV_DISK_EXPORTSDIR", kind: text, def: "/exports", levels: boot, aliases: []string{"disk.exportsdir"},
		doc: "where containers export directories"},
	DiskVolDir: {name: "PV_DISK_VOLDIR", kind: text, def: "/volumes", levels: boot, aliases: []string{"disk.voldir"},
		doc: "where volumes are mounted"},
	DiskWritableDir: {name: "PV_DISK_WRITABLEDIR", kind: text, def: "/writable", levels: boot, aliases: []string{"disk.writabledir"},
		doc: "the writable layer of the root"},
	DropbearCacheDir: {name: "PV_DROPBEAR_CACHE_DIR", kind: text, def: "/storage/cache/dropbear", levels: boot, aliases: []string{"dropbear.cache.dir"},
		doc: "keys of the SSH server"},
	LibeventDebugMode: {name: "PV_LIBEVENT_DEBUG_MODE", kind: flag, def: "0", levels: boot | oem,
		doc: "log the event loop"},
	CertsDir: {name: "PV_LIBTHTTP_CERTSDIR", kind: text, def: "/certs", levels: boot, aliases: []string{"libthttp.certdir"},
		doc: "certificates of the Hub"},
	HTTPLogLevel: {name: "PV_LIBTHTTP_LOG_LEVEL", kind: number, in: span{0, 5}, def: "3", levels: boot | oem | live, aliases: []string{"libthttp.log.level"},
		doc: "level of the HTTP client's messages"},
	LogAutoDevlog: {name: "PV_LOG_AUTO_DEVLOG", kind: flag, def: "1", levels: boot | oem,
		doc: "containers get /dev/log"},
	LogCapture: {name: "PV_LOG_CAPTURE", kind: flag, def: "1", levels: boot | oem, aliases: []string{"log.capture"},
		doc: "keep what containers log"},
	LogCaptureDmesg: {name: "PV_LOG_CAPTURE_DMESG", kind: flag, def: "1", levels: boot | oem, aliases: []string{"log.capture.dmesg"},
		doc: "keep what the kernel logs"},
	LogBufNitems: {name: "PV_LOG_BUF_NITEMS", kind: number, in: natural, def: "128", levels: boot | oem, aliases: []string{"log.buf_nitems"},
		doc: "KiB of messages held in memory"},
	LogDir: {name: "PV_LOG_DIR", kind: text, def: "/storage/logs/", levels: boot, aliases: []string{"log.dir"},
		doc: "directory of the logs"},
	LogDirMaxSize: {name: "PV_LOG_DIR_MAXSIZE", kind: text, form: &size, def: "0", levels: boot | oem | live,
		doc: "most that the logs of a revision take: bytes, a suffix B to TB, or %; 0 is automatic"},
	LogFiletreeTimestamp: {name: "PV_LOG_FILETREE_TIMESTAMP_FORMAT", kind: text, form: &timeFormat, levels: boot | oem | live, aliases: []string{"log.filetree.timestamp.format"},
		doc: "golang: or strftime: format"},
	LogHysteresisFactor: {name: "PV_LOG_HYSTERESIS_FACTOR", kind: number, in: positive, def: "4", levels: boot | oem | live,
		doc: "how far logs are cleaned: size divided by this"},
	LogLevel: {name: "PV_LOG_LEVEL", kind: number, in: span{0, 6}, def: "0", levels: boot | oem | live, aliases: []string{"log.level"},
		doc: "0 fatal, 1 error, 2 warn, 3 info, 4 debug, 5 trace, 6 all"},
	LogLoggers: {name: "PV_LOG_LOGGERS", kind: flag, def: "1", levels: boot | oem, aliases: []string{"log.loggers"},
		doc: "follow log files inside containers"},
	LogPush: {name: "PV_LOG_PUSH", kind: flag, def: "1", levels: boot | hub | oem | live, aliases: []string{"log.push", "pantahub.log.push"},
		doc: "send logs to the Hub"},
	LogRotateFactor: {name: "PV_LOG_ROTATE_FACTOR", kind: number, in: positive, def: "5", levels: boot | oem | live,
		doc: "size of one log file: the cleaned size divided by this"},
	LogServerOutputs: {name: "PV_LOG_SERVER_OUTPUTS", kind: outputs, def: "filetree", levels: boot | oem | live, aliases: []string{"log.server.outputs"},
		doc: "comma list of nullsink, singlefile, filetree, stdout, stdout.containers, stdout.pantavisor, stdout_direct"},
	LogSinglefileTimestamp: {name: "PV_LOG_SINGLEFILE_TIMESTAMP_FORMAT", kind: text, form: &timeFormat, levels: boot | oem | live, aliases: []string{"log.singlefile.timestamp.format"},
		doc: "golang: or strftime: format"},
	LogStdoutTimestamp: {name: "PV_LOG_STDOUT_TIMESTAMP_FORMAT", kind: text, form: &timeFormat, levels: boot | oem | live, aliases: []string{"log.stdout.timestamp.format"},
		doc: "golang: or strftime: format"},
	LogTimestamp: {name: "PV_LOG_TIMESTAMP", kind: choice, def: "relative", choices: clocks, levels: boot | oem | live,
		doc: "clock of the messages: relative (since boot) or absolute"},
	LoopIndexBase: {name: "PV_LOOP_INDEX_BASE", kind: number, in: span{-1, 1<<20 - 1}, def: "-1", levels: boot,
		doc: "first loop device to use; -1: any free one"},
	LXCLogLevel: {name: "PV_LXC_LOG_LEVEL", kind: number, in: span{0, 8}, def: "2", levels: boot | oem, aliases: []string{"lxc.log.level"},
		doc: "level of the container launcher's messages"},
	NetBrAddress4: {name: "PV_NET_BRADDRESS4", kind: text, form: &address4, def: "10.0.3.1", levels: boot | oem, aliases: []string{"net.braddress4"},
		doc: "address of the default bridge"},
	NetBrDev: {name: "PV_NET_BRDEV", kind: text, form: &interfaceName, def: "lxcbr0", levels: boot | oem, aliases: []string{"net.brdev"},
		doc: "name of the default bridge"},
	NetBrMask4: {name: "PV_NET_BRMASK4", kind: text, form: &netmask4, def: "255.255.255.0", levels: boot | oem, aliases: []string{"net.brmask4"},
		doc: "netmask of the default bridge"},
	OEMName: {name: "PV_OEM_NAME", kind: text, levels: boot,
		doc: "directory of the revision that holds its configuration"},
	PolicyName: {name: "PV_POLICY", kind: text, levels: only, aliases: []string{"policy"},
		doc: "name of the policy file, without slash"},
	PowerMode: {name: "PV_POWER_MODE", kind: choice, def: "locks", choices: powerModes, levels: boot | oem | live, aliases: []string{"power.mode"},
		doc: "disabled, locks or managed"},
	PowerDevmetaEagerPush: {name: "PV_POWER_DEVMETA_EAGER_PUSH", kind: flag, def: "0", levels: boot | oem | live, aliases: []string{"power.devmeta.eager_push"},
		doc: "send device metadata before sleep"},
	PowerWakeInterval: {name: "PV_POWER_WAKE_INTERVAL", kind: duration, def: "3600", levels: boot | oem | live, aliases: []string{"power.wake.interval"},
		doc: "time between wake-ups"},
	PowerWakeRunWindow: {name: "PV_POWER_WAKE_RUN_WINDOW", kind: duration, def: "0", levels: boot | oem | live, aliases: []string{"power.wake.run_window"},
		doc: "time awake after a wake-up"},
	PowerAutosleepSettle: {name: "PV_POWER_AUTOSLEEP_SETTLE", kind: duration, def: "90", levels: boot | oem | live, aliases: []string{"power.autosleep.settle"},
		doc: "time after boot without sleep"},
	PowerWakeMinAwake: {name: "PV_POWER_WAKE_MIN_AWAKE", kind: duration, def: "10", levels: boot | oem | live, aliases: []string{"power.wake.min_awake"},
		doc: "least time awake"},
	PowerWakeMaxAwake: {name: "PV_POWER_WAKE_MAX_AWAKE", kind: duration, def: "60", levels: boot | oem | live, aliases: []string{"power.wake.max_awake"},
		doc: "most time awake"},
	PowerDevmetaMaxHeld: {name: "PV_POWER_DEVMETA_MAX_HELD", kind: duration, def: "300", levels: boot | oem | live, aliases: []string{"power.devmeta.max_held"},
		doc: "longest time that metadata waits"},
	PowerSysfsDir: {name: "PV_POWER_SYSFS_DIR", kind: text, def: "/sys/power", levels: boot | oem | live, aliases: []string{"power.sysfs_dir"},
		doc: "the kernel's power directory"},
	RevisionRetries: {name: "PV_REVISION_RETRIES", kind: number, in: natural, def: "10", levels: boot | oem | live, aliases: []string{"revision.retries"},
		doc: "times that a download of an update is tried"},
	SecurebootChecksum: {name: "PV_SECUREBOOT_CHECKSUM", kind: flag, def: "1", levels: boot, aliases: []string{"secureboot.checksum"},
		doc: "check the hash of objects before use"},
	SecurebootHandlers: {name: "PV_SECUREBOOT_HANDLERS", kind: flag, def: "1", levels: boot, aliases: []string{"secureboot.handlers"},
		doc: "use the handlers of volumes"},
	SecurebootMode: {name: "PV_SECUREBOOT_MODE", kind: choice, def: "lenient", choices: securebootModes, levels: boot, aliases: []string{"secureboot.mode"},
		doc: "disabled, audit, lenient or strict"},
	SecurebootOEMTruststore: {name: "PV_SECUREBOOT_OEM_TRUSTSTORE", kind: text, def: "ca-oem-certificates", levels: boot, aliases: []string{"PV_SECUREBOOT_OEM_TRUSTORE"},
		doc: "certificates of the OEM"},
	SecurebootTruststore: {name: "PV_SECUREBOOT_TRUSTSTORE", kind: text, def: "ca-certificates", levels: boot, aliases: []string{"secureboot.truststore"},
		doc: "certificates that signatures are checked with"},
	StorageDevice: {name: "PV_STORAGE_DEVICE", kind: text, levels: boot, aliases: []string{"storage.device"},
		doc: "LABEL=, UUID=, PARTLABEL=, PARTUUID=, path or UBI volume (ubi0:NAME) of the storage; unset: the partition that the boot loader names, or the label pvroot or root"},
	StorageFSType: {name: "PV_STORAGE_FSTYPE", kind: text, levels: boot, aliases: []string{"storage.fstype"},
		doc: "its file system"},
	StorageGCKeepFactory: {name: "PV_STORAGE_GC_KEEP_FACTORY", kind: flag, def: "0", levels: boot | oem | live, aliases: []string{"storage.gc.keep_factory", "updater.keep_factory"},
		doc: "never remove revision 0"},
	StorageGCReserved: {name: "PV_STORAGE_GC_RESERVED", kind: number, in: percent, def: "5", levels: boot | oem | live, aliases: []string{"storage.gc.reserved"},
		doc: "percent of the storage kept free"},
	StorageGCThresholdDefertime: {name: "PV_STORAGE_GC_THRESHOLD_DEFERTIME", kind: number, in: natural, def: "600", levels: boot | oem | live, aliases: []string{"storage.gc.threshold.defertime"},
		doc: "seconds for which objects and revisions that came are kept, and no garbage is collected for want of space"},
	StorageGCThreshold: {name: "PV_STORAGE_GC_THRESHOLD", kind: number, in: percent, def: "0", levels: boot | oem | live, aliases: []string{"storage.gc.threshold"},
		doc: "collect garbage when less than this percentage of the storage is free, without the reserved part; 0: never"},
	StorageLogtempSize: {name: "PV_STORAGE_LOGTEMPSIZE", kind: text, form: &tmpfsSize, levels: boot, aliases: []string{"storage.logtempsize"},
		doc: "keep the logs in a tmpfs of this size, not on the storage"},
	StorageMntPoint: {name: "PV_STORAGE_MNTPOINT", kind: text, levels: boot, aliases: []string{"storage.mntpoint"},
		doc: "where the storage is mounted"},
	StorageMntType: {name: "PV_STORAGE_MNTTYPE", kind: text, levels: boot, aliases: []string{"storage.mnttype"},
		doc: "program that mounts it"},
	StorageFirmwareVol: {name: "PV_STORAGE_FIRMWARE_VOL", kind: flag, def: "0", levels: boot,
		doc: "firmware is in a volume"},
	StoragePHConfigVol: {name: "PV_STORAGE_PHCONFIG_VOL", kind: flag, def: "0", levels: boot,
		doc: "pantahub.config is in the volume pv--phconfig of device.json, not in config/ on the storage"},
	StorageWait: {name: "PV_STORAGE_WAIT", kind: number, in: natural, def: "5", levels: boot, aliases: []string{"storage.wait"},
		doc: "seconds to wait for the device"},
	AppArmorProfiles: {name: "PV_SYSTEM_APPARMOR_PROFILES", kind: text, levels: boot, aliases: []string{"system.apparmor.profiles"},
		doc: "comma list of files in <etc>/apparmor.d to load, compiled or for apparmor_parser, or all"},
	SystemConfDir: {name: "PV_SYSTEM_CONFDIR", kind: text, def: "/configs", levels: boot, aliases: []string{"system.confdir"},
		doc: "copies of the _config directories"},
	SystemDriversLoadEarlyAuto: {name: "PV_SYSTEM_DRIVERS_LOAD_EARLY_AUTO", kind: flag, def: "0", levels: boot, aliases: []string{"system.drivers.load_early.auto"},
		doc: "load the drivers of all devices before the storage, not only until it is found"},
	SystemEtcDir: {name: "PV_SYSTEM_ETCDIR", kind: text, def: "/etc", levels: boot, aliases: []string{"system.etcdir"},
		doc: "directory of the configuration"},
	SystemEtcPantavisorDir: {name: "PV_SYSTEM_ETCPANTAVISORDIR", kind: text, def: "/etc/pantavisor", levels: boot,
		doc: "directory of the runtime's own data in it"},
	SystemInitMode: {name: "PV_SYSTEM_INIT_MODE", kind: choice, def: "embedded", choices: initModes, levels: boot | args, aliases: []string{"system.init.mode"},
		doc: "embedded, standalone or appengine"},
	SystemLibDir: {name: "PV_SYSTEM_LIBDIR", kind: text, def: "/lib", levels: boot, aliases: []string{"system.libdir"},
		doc: "directory of handlers and hooks"},
	SystemMediaDir: {name: "PV_SYSTEM_MEDIADIR", kind: text, def: "/media", levels: boot, aliases: []string{"system.mediadir"},
		doc: "mount points of media"},
	SystemMountSecurityfs: {name: "PV_SYSTEM_MOUNT_SECURITYFS", kind: flag, def: "0", levels: boot, aliases: []string{"system.mount.securityfs"},
		doc: "mount /sys/kernel/security"},
	SystemRunDir: {name: "PV_SYSTEM_RUNDIR", kind: text, def: "/pv", levels: boot, aliases: []string{"system.rundir"},
		doc: "directory of the sockets"},
	SystemDisksDir: {name: "PV_SYSTEM_DISKSDIR", kind: text, def: "/run/pantavisor/disks", levels: boot, aliases: []string{"system.disksdir"},
		doc: "mount points of disks"},
	SystemUsrDir: {name: "PV_SYSTEM_USRDIR", kind: text, def: "/usr", levels: boot, aliases: []string{"system.usrdir"},
		doc: "prefix of the programs"},
	UpdaterCommitDelay: {name: "PV_UPDATER_COMMIT_DELAY", kind: number, in: natural, def: "25", levels: boot | oem | live, aliases: []string{"updater.commit.delay"},
		doc: "seconds that a new revision must run before it is committed"},
	UpdaterGoalsTimeout: {name: "PV_UPDATER_GOALS_TIMEOUT", kind: number, in: natural, def: "120", levels: boot | oem, aliases: []string{"updater.goals.timeout"},
		doc: "seconds in which containers must reach their goals"},
	UpdaterUseTmpObjects: {name: "PV_UPDATER_USE_TMP_OBJECTS", kind: flag, def: "0", levels: boot | oem | live, aliases: []string{"updater.use_tmp_objects"},
		doc: "download to a temporary directory first"},
	VolmountDMExtraArgs: {name: "PV_VOLMOUNT_DM_EXTRA_ARGS", kind: text, levels: boot | oem,
		doc: "more arguments for the volume handlers"},
	WatchdogMode: {name: "PV_WDT_MODE", kind: choice, def: "shutdown", choices: watchdogModes, levels: boot, aliases: []string{"wdt.mode"},
		doc: "disabled, shutdown, startup or always"},
	WatchdogTimeout: {name: "PV_WDT_TIMEOUT", kind: number, in: positive, def: "15", levels: boot | hub, aliases: []string{"wdt.timeout"},
		doc: "seconds until the watchdog resets the board"},
	XConnectDBusSystembus: {name: "PV_XCONNECT_DBUS_SYSTEMBUS_ENABLED", kind: flag, def: "1", levels: boot | oem, aliases: []string{"xconnect.dbus.systembus.enabled"},
		doc: "host a system bus for containers"},
	RemountPolicy: {name: "PV_REMOUNT_POLICY", kind: text, levels: only,
		doc: "name of the list of mount options to apply"},
	SecurityDefaultRole: {name: "PV_SECURITY_DEFAULT_ROLE", kind: choice, def: "nobody", choices: defaultRoles, levels: boot | oem,
		doc: "role of a container that names none: nobody or mgmt"},
	UpdaterTrials: {name: "PV_UPDATER_TRIALS", kind: number, in: span{1, 100}, def: "1", levels: boot | oem,
		doc: "boots that a new revision gets if the device restarts without a word while it is under test"},
}
