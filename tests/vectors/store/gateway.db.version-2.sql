BEGIN TRANSACTION;
CREATE TABLE commands (
    n INTEGER PRIMARY KEY, letter TEXT NOT NULL, life TEXT, packet TEXT, answer TEXT, told INTEGER
);
INSERT INTO "commands" VALUES(7,'{"device":"light-0000","command":"ping","transaction":"a"}','00000007','4','{"status":"ok"}',1);
CREATE TABLE devices (key TEXT PRIMARY KEY, entry TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "devices" VALUES('light-0000','{"level":"light-0000","last_level":"light-0000","name":"","link":"light-0000","description":{"device":"light-0000","name":"light-0000","driver":"board","model":"light","firmware":"0.1.0","runtime":"","address":"light-0000","sensors":[{"key":"number","unit":"","device_class":"","exponent":0,"is_diagnostic":false,"source_key":"","kind":"","quiet_s":0.0},{"key":"temperature","unit":"\u00b0C","device_class":"temperature","exponent":-2,"is_diagnostic":false,"source_key":"","kind":"","quiet_s":0.0}],"boot":0,"reset_cause":"","crash":"","problem":""},"options":{},"learned":{"habits":{"number":["number",60],"temperature":["number",60]},"entities":{"sensor_number":"sensor","sensor_temperature":"sensor","diagnostic_link":"sensor","diagnostic_firmware":"sensor","diagnostic_problem":"binary_sensor","diagnostic_online_since":"sensor","diagnostic_lost":"sensor","diagnostic_last_gap":"sensor"}},"is_proven":true,"added_unix_s":1795426652.5986066,"quiet_s":0.0}');
INSERT INTO "devices" VALUES('light-0001','{"level":"attic_lamp","last_level":"attic_lamp","name":"Attic lamp","link":"light-0001","description":{"device":"light-0001","name":"light-0001","driver":"board","model":"light","firmware":"0.1.0","runtime":"","address":"light-0001","sensors":[{"key":"number","unit":"","device_class":"","exponent":0,"is_diagnostic":false,"source_key":"","kind":"","quiet_s":0.0},{"key":"temperature","unit":"\u00b0C","device_class":"temperature","exponent":-2,"is_diagnostic":false,"source_key":"","kind":"","quiet_s":0.0}],"boot":0,"reset_cause":"","crash":"","problem":""},"options":{},"learned":{"habits":{"number":["number",60],"temperature":["number",60]},"entities":{"sensor_number":"sensor","sensor_temperature":"sensor","diagnostic_link":"sensor","diagnostic_firmware":"sensor","diagnostic_problem":"binary_sensor","diagnostic_online_since":"sensor","diagnostic_lost":"sensor","diagnostic_last_gap":"sensor"}},"is_proven":true,"added_unix_s":1795426652.6019726,"quiet_s":0.0}');
CREATE TABLE retained (topic TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO "retained" VALUES('edge/attic/attic_lamp/availability');
INSERT INTO "retained" VALUES('edge/attic/attic_lamp/diagnostics');
INSERT INTO "retained" VALUES('edge/attic/attic_lamp/info');
INSERT INTO "retained" VALUES('edge/attic/attic_lamp/state');
INSERT INTO "retained" VALUES('edge/attic/health');
INSERT INTO "retained" VALUES('edge/attic/light-0000/availability');
INSERT INTO "retained" VALUES('edge/attic/light-0000/diagnostics');
INSERT INTO "retained" VALUES('edge/attic/light-0000/info');
INSERT INTO "retained" VALUES('edge/attic/light-0000/state');
INSERT INTO "retained" VALUES('edge/attic/light-0001/availability');
INSERT INTO "retained" VALUES('edge/attic/light-0001/info');
INSERT INTO "retained" VALUES('edge/attic/light-0001/state');
INSERT INTO "retained" VALUES('edge/attic/status');
INSERT INTO "retained" VALUES('homeassistant/device/edge_attic/config');
INSERT INTO "retained" VALUES('homeassistant/device/edge_attic_light-0000/config');
INSERT INTO "retained" VALUES('homeassistant/device/edge_attic_light-0001/config');
COMMIT;
PRAGMA user_version = 2;
