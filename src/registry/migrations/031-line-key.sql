-- The key with which a device came by its line: what the line's manifest says of it holds, whatever key the device has renewed to since.
ALTER TABLE device ADD COLUMN line_key BLOB;
UPDATE device SET line_key = COALESCE((SELECT spki FROM device_key WHERE device_key.device = device.id ORDER BY created, barred DESC LIMIT 1), spki) WHERE line > 0;
