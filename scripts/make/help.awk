# Prints `make help`: the targets and then the settings of the Makefile that have a ## text, under their ##@ headings.
# The environment contains the present values of the settings.
function add(text) {
    text = (group == "" ? "" : "\n" group "\n") text "\n"
    group = ""
    return text
}
# The present value of a setting, without a password or token that a URL contains.
function value_of(name,    value) {
    value = ENVIRON[name]
    sub(/:\/\/[^\/]*@/, "://…@", value)
    sub(/\?.*/, "?…", value)
    return value == "" ? "(empty)" : value
}
BEGIN { print "make TARGET [SETTING=value …]" }
/^##@ / { group = substr($0, 5) }
/^[a-z][a-z-]*:.*## / {
    target = $0; sub(/:.*/, "", target)
    sub(/.*## /, "")
    targets = targets add(sprintf("  %-14s %s", target, $0))
}
/^[A-Z_]+ \?=.*## / {
    name = $1
    sub(/.*## /, "")
    settings = settings add(sprintf("  %-9s %-10s %s", name, value_of(name), $0))
}
END { printf "%s%s", targets, settings }
