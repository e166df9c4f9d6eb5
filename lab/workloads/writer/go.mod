module ferry.lab/writer

go 1.22
