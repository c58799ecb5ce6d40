# Which object of BTHome v2 (https://bthome.io/format) says what a channel measures.

# device class, unit, then objects: id, form and exponent of the value in that unit. Forms: b h i
# signed, B H T I unsigned, of 1, 2, 3 and 4 bytes. The smaller and finer object stands first.
_TABLE = """\
battery % 01B0
temperature °C 02h-2 45h-1
humidity % 03H-2 2EB0
pressure hPa 04T-2
pressure mbar 04T-2
pressure kPa 04T-3
pressure Pa 04T0
illuminance lx 05T-2
weight kg 06H-2
weight g 06H1
energy kWh 0AT-3 4DI-3
energy Wh 0AT0 4DI0
power W 0BT-2 5Ci-2
power kW 0BT-5 5Ci-5
voltage V 0CH-3 4AH-1
voltage mV 0CH0 4AH2
pm25 µg/m³ 0DH0
pm10 µg/m³ 0EH0
carbon_dioxide ppm 12H0
volatile_organic_compounds µg/m³ 13H0
moisture % 14H-2 2FB0
distance mm 40H0
distance cm 40H-1 41H1
distance m 40H-3 41H-1
duration s 42T-3
duration ms 42T0
current A 43H-3 5Dh-3
current mA 43H0 5Dh0
speed m/s 44H-2
wind_speed m/s 44H-2
wind_direction ° 5EH-2
volume L 47H-1 4EI-3
volume mL 48H0 4EI0
volume_flow_rate m³/h 49H-3
gas m³ 4BT-3 4CI-3
water L 4FI-3
water m³ 4FI-6
volume_storage L 55I-3
conductivity µS/cm 56H0
count - 09B0 3DH0 3EI0 5Bi0
"""


# Returns [(id, form, exponent), ...] for a channel, the best first; empty if there is none.
def find(key, unit, device_class):
    if device_class == "atmospheric_pressure":
        device_class = "pressure"
    elif not device_class and not unit and key == "count":
        device_class, unit = key, "-"
    wanted = "%s %s " % (device_class, unit)
    for line in _TABLE.split("\n"):
        if line.startswith(wanted):
            objects = line[len(wanted) :].split()
            return [(int(text[:2], 16), text[2], int(text[3:])) for text in objects]
    return []
