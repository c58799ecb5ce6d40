"""The radio, joined: scan, who may join, boards on GATT, sensors in adverts."""
