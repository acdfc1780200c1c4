#!/bin/sh
# Creates both databases and brings their schemas up to this image's version. Running it again changes nothing;
# running it from a newer image upgrades. Host, port, user and password: SQL_HOST, SQL_PORT, SQL_USER, SQL_PASSWORD.
set -eu

schemas=/etc/temporal/schema/postgresql/v12

prepare() {
    temporal-sql-tool --db "$1" create
    temporal-sql-tool --db "$1" setup-schema -v 0.0
    temporal-sql-tool --db "$1" update-schema -d "$2"
}

prepare temporal "$schemas/temporal/versioned"
prepare temporal_visibility "$schemas/visibility/versioned"
