# Images in Android's sparse form: IMAGE_FSTYPES += "wic.simg".

CONVERSIONTYPES += "simg"
CONVERSION_CMD:simg = "python3 ${CUMULET_BSP_LAYER}/lib/cumulet_bsp/sparse.py ${IMAGE_NAME}.${type} ${IMAGE_NAME}.${type}.simg"
CONVERSION_CMD:simg[vardepsexclude] = "CUMULET_BSP_LAYER"
