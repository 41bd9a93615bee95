COMPATIBLE_MACHINE:pinephone = "^pinephone$"
TFA_PLATFORM:pinephone = "sun50i_a64"
TFA_BUILD_TARGET:pinephone = "bl31"
TFA_INSTALL_TARGET:pinephone = "bl31"

COMPATIBLE_MACHINE:rockpro64 = "^rockpro64$"
TFA_PLATFORM:rockpro64 = "rk3399"
TFA_BUILD_TARGET:rockpro64 = "bl31"
TFA_INSTALL_TARGET:rockpro64 = "bl31"
# RK3399 has a small processor of another kind, whose program is part of the firmware.
DEPENDS:append:rockpro64 = " gcc-arm-none-eabi-native"
