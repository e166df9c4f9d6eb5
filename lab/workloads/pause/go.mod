module ferry.lab/pause

go 1.22
