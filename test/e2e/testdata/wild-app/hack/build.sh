#!/bin/sh
set -e
go build -o bin/server ./cmd/server
