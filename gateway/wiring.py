"""Settings -> what each part of the gateway is told; pure."""

from gateway.ble.service import BleOptions
from gateway.config.bind_keys import bind_keys
from gateway.config.device_models import SensorSettings
from gateway.config.models import Settings
from gateway.config.serial_models import PortSettings, SerialSettings
from gateway.drivers.serial_line import LineFormat
from gateway.links.serial_port import SerialOptions
from gateway.model import Sensor, slug
from gateway.mqtt.settings import BrokerSettings
from gateway.ports import PortRule, PortsOptions, PortUse
from gateway.processing.rules import DeviceRule, SensorRule
from gateway.store.keeper import KeeperOptions
from gateway.store.outbox import OutboxOptions
from gateway.store.store import Limits


def outbox_options(settings: Settings) -> OutboxOptions:
    """Return how the outbox is to treat what waits."""
    outbox = settings.outbox
    return OutboxOptions(
        max_records=outbox.max_records,
        live_s=outbox.spill_after_s,
        drain_rate=outbox.drain_rate,
        always_stores=outbox.durability == "always",
    )


def store_limits(settings: Settings) -> Limits:
    """Return how much is kept on disk."""
    outbox = settings.outbox
    return Limits(outbox.max_mb << 20, outbox.max_age_days * 86400.0)


def keeper_options(settings: Settings) -> KeeperOptions:
    """Return when what waits goes to disk."""
    outbox = settings.outbox
    return KeeperOptions(
        outbox.spill_after_s, outbox.durability == "always", store_limits(settings)
    )


def broker_settings(settings: Settings, password: str | None) -> BrokerSettings:
    """Return where the broker is, and how to speak with it."""
    mqtt = settings.mqtt
    return BrokerSettings(
        host=mqtt.host,
        port=mqtt.broker_port,
        version=mqtt.version,
        client_id=settings.client_id,
        username=mqtt.username,
        password=password,
        tls=mqtt.uses_tls,
        ca_file=mqtt.ca_file,
        cert_file=mqtt.cert_file,
        key_file=mqtt.key_file,
        tls_server_name=mqtt.tls_server_name,
        tls_alpn=mqtt.tls_alpn,
        keepalive_s=mqtt.keepalive_s,
        window=mqtt.window,
        batch_max=mqtt.batch_max,
        base_topic=settings.base_topic,
    )


def processing_rules(settings: Settings) -> dict[str, DeviceRule]:
    """Return what becomes of the values of devices."""
    return {
        device.id: DeviceRule(tuple(_sensor_rule(sensor) for sensor in device.sensor))
        for device in settings.device
        if device.sensor
    }


def ports_options(settings: Settings) -> PortsOptions:
    """Return which serial ports to use, and how."""
    serial = settings.serial
    return PortsOptions(
        patterns=serial.patterns,
        exclude=serial.exclude,
        rescan_s=serial.rescan_s,
        use=PortUse(_serial_options(serial, None), LineFormat()),
        rules=tuple(_port_rule(serial, port) for port in serial.port),
    )


def ble_options(settings: Settings) -> BleOptions:
    """Return which radio to use, and for whom."""
    ble = settings.ble
    return BleOptions(
        joined_path=settings.joined_path,
        adapter=ble.adapter,
        is_passive=ble.mode == "passive",
        join=ble.join,
        names={device.address: device.name or "" for device in ble.device},
        keys=bind_keys(ble),
        max_connections=ble.max_connections,
        turn_s=ble.turn_s,
        deaf_s=ble.deaf_s,
    )


def _sensor_rule(sensor: SensorSettings) -> SensorRule:
    return SensorRule(
        source=sensor.source,
        rename=sensor.rename or "",
        unit=sensor.unit,
        device_class=sensor.device_class,
        scale=sensor.scale,
        offset=sensor.offset,
        low=sensor.low,
        high=sensor.high,
        window=None if isinstance(sensor.window, tuple) else sensor.window,
        beside=sensor.beside,
        window_s=sensor.window_s or 0.0,
        decimals=sensor.decimals,
        throttle_s=sensor.throttle_s,
        deadband=sensor.deadband,
        refresh_s=sensor.refresh_s,
    )


def _port_rule(serial: SerialSettings, port: PortSettings) -> PortRule:
    columns = tuple(
        Sensor(slug(column.key), column.unit, column.device_class) for column in port.columns
    )
    line_format = LineFormat(port.format, columns, port.separator)
    return PortRule(
        port.match, PortUse(_serial_options(serial, port), line_format, port.name or "")
    )


def _serial_options(serial: SerialSettings, port: PortSettings | None) -> SerialOptions:
    baudrate, silence_s = serial.baudrate, serial.silence_s
    if port is not None:
        baudrate = port.baudrate or baudrate
        silence_s = silence_s if port.silence_s is None else port.silence_s
    return SerialOptions(baudrate=baudrate, settle_s=serial.settle_s, silence_s=silence_s or None)
