"""Settings -> what each part of the gateway is told; pure."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway import __version__
from gateway.ble.service import BleOptions
from gateway.config.bind_keys import bind_keys
from gateway.config.device_models import SensorSettings
from gateway.config.models import Settings
from gateway.config.serial_models import PortSettings, SerialSettings
from gateway.devices.device import Declared
from gateway.drivers.serial_line import LineFormat
from gateway.links.serial_port import SerialOptions
from gateway.model import Sensor, slug
from gateway.mqtt.homeassistant.naming import Site
from gateway.mqtt.settings import BrokerSettings
from gateway.ports import PortRule, PortsOptions, PortUse
from gateway.processing.rules import DeviceRule, SensorRule
from gateway.staff import StaffOptions
from gateway.storage import StorageOptions
from gateway.store.jobs import Limits
from gateway.store.keeper import KeeperOptions
from gateway.store.outbox import OutboxOptions


def is_in_runtime_folder(path: Path) -> bool:
    """Say whether a file is where systemd gave the service a folder of its own.

    Source: systemd.exec(5), $RUNTIME_DIRECTORY.
    """
    folders = os.environ.get("RUNTIME_DIRECTORY", "").split(":")
    return str(path.parent) in folders


def device_keys_credential() -> Path | None:
    """Return systemd's credential of boards' keys, if there is one.

    Source: systemd.exec(5), $CREDENTIALS_DIRECTORY.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / "device-keys" if folder else None
    return path if path is not None and path.exists() else None


def staff_options(settings: Settings) -> StaffOptions:
    """Return where orders come in."""
    return StaffOptions(
        settings.gateway.name,
        settings.base_topic,
        settings.homeassistant.prefix,
        settings.control_path,
        is_in_runtime_folder(settings.control_path),
    )


def storage_options(settings: Settings) -> StorageOptions:
    """Return where what outlives the process is, and how much of it."""
    return StorageOptions(
        outbox_options(settings),
        keeper_options(settings),
        store_limits(settings),
        settings.outbox_path,
        settings.state_path,
        settings.keys_path,
        device_keys_credential(),
    )


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


def declared_devices(settings: Settings) -> dict[str, Declared]:
    """Return what the configuration says of devices."""
    return {device.id: Declared(device.name or "", device.enabled) for device in settings.device}


def home_assistant_site(settings: Settings) -> Site:
    """Return as whom, and where, devices are announced to Home Assistant."""
    return Site(
        gateway=settings.gateway.name,
        base_topic=settings.base_topic,
        prefix=settings.homeassistant.prefix,
        version=__version__,
    )


def processing_rules(settings: Settings) -> dict[str, DeviceRule]:
    """Return what becomes of the values of devices."""
    return {
        device.id: DeviceRule(tuple(_sensor_rule(sensor) for sensor in device.sensor))
        for device in settings.device
        if device.sensor
    }


def ports_options(settings: Settings) -> PortsOptions:
    """Return which serial ports to use, and how; none if they are not to be read."""
    serial = settings.serial
    return PortsOptions(
        patterns=serial.patterns if serial.enabled else (),
        exclude=serial.exclude,
        rescan_s=serial.rescan_s,
        use=PortUse(_serial_options(serial, None), LineFormat()),
        rules=tuple(_port_rule(serial, port) for port in serial.port),
    )


def ble_options(settings: Settings) -> BleOptions | None:
    """Return which radio to use, and for whom; None if it is to be left alone.

    Raises:
        ConfigError: the file of bind keys cannot be read.
    """
    ble = settings.ble
    if not ble.enabled:
        return None
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


def public_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings as JSON knows them, for strangers' eyes."""
    shown = settings.model_dump(mode="json")
    if shown["mqtt"]["username"]:
        shown["mqtt"]["username"] = "(not shown)"
    for device in shown["ble"]["device"]:
        if device["bind_key"]:
            device["bind_key"] = "(not shown)"
    return shown


def secrets_of(
    settings: Settings, password: str | None, device_keys: Sequence[str] = ()
) -> list[str]:
    """Return what must not be in anything that is shown."""
    keys = [device.bind_key for device in settings.ble.device if device.bind_key]
    return [*keys, *device_keys, *([password] if password else [])]


def backup_files(
    settings: Settings, config: Path | None, devices: Sequence[str] = ()
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the files that belong into each backup, and the credentials, by their names there."""
    mqtt = settings.mqtt
    has_key_of_its_own = bool(mqtt.key_file or mqtt.key_credential)
    files = {
        "gateway.toml": config,
        "joined.json": settings.joined_path if settings.ble.join == "window" else None,
        "bind-keys": settings.ble.bind_keys_file,
        "mqtt-ca.pem": mqtt.ca_file,
        "mqtt-cert.pem": mqtt.cert_file if has_key_of_its_own else None,
    }
    files |= {f"keys/{device}": settings.keys_path / device for device in devices}
    credentials = {
        "mqtt-cert.pem": None if has_key_of_its_own else mqtt.cert_file,
        "mqtt-key.pem": mqtt.key_file,
        "mqtt-password": mqtt.password_file,
    }
    return _given(files), _given(credentials)


def _given(paths: dict[str, Path | None]) -> dict[str, Path]:
    return {name: path for name, path in paths.items() if path is not None}


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
