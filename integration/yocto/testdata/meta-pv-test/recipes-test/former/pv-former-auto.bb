require pv-former-device.bb

SUMMARY = "The same with all device trees, of which U-Boot picks one"
PV_INITIAL_DTB = ""
PV_UBOOT_AUTOFDT = "1"
