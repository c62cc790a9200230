module example.com/services/api

go 1.26

require example.com/libs/log v0.0.0
