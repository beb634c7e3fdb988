# The page of `make help`: every target and variable of the Makefile that has a ## comment; values from the environment.
BEGIN { print "make TARGET [VARIABLE=value …]\n" }
/^[a-z][a-z-]*:.*## / {
    target = $0; sub(/:.*/, "", target)
    sub(/.*## /, "")
    printf "  %-14s %s\n", target, $0
}
/^[A-Z_]+ \?=.*## / {
    name = $1
    sub(/.*## /, "")
    variables = variables sprintf("  %-9s %-10s %s\n", name, ENVIRON[name] == "" ? "(empty)" : ENVIRON[name], $0)
}
END { printf "\nvariables, with their present values\n%s", variables }
