module example.com/libs/log

go 1.26
