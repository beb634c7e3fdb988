#!/bin/sh
# Checks goals and variables before make installs or writes anything. The Makefile runs it once while it is parsed.
# For the goals verify and verify-all it also writes a junit.xml that says that nothing was judged yet.
#
# Input: the variables below, all set on the command line of this script. Output: one line, which is either
#   ok chip=… root=… source=… params=… fallback=… own_onnx=… own_sizes=… inputs=…    accepted; make uses these values
#     numbered=yes if DEVICE is set for a chip with numbered devices
#     restarted=yes if this make has restarted after it wrote inputs.mk
#     and begun=<s since 1970> if a tool of CANN is set for a goal that may use it
#   subject: problem; remedy                                                 refused
# The exit status is always 0, because GNU Make 4.0 does not look at it.

# Values are untrusted text, so no file name patterns are expanded. An unset variable is an error of this script.
set -fu
unset CDPATH # cd would look there for a ROOT

# The user's settings.
: "${BS=}" "${CHIP=}" "${ROOT=}" "${SOURCE=}" "${PARAMS=}" "${ARCHIVE=}" "${WEIGHTS=}" "${ONNX=}" "${OM=}"
: "${DEVICE=}" "${ATC=}" "${AIS_BENCH=}" "${SET_ENV=}" "${MIRROR=}" "${PYTHON=}"
: "${FRESH=}" "${LAYERS=}" "${WHY=}" "${T=}" "${N=}" "${V=}"
# The names of all settings; those that come from the environment; those on the command line of make.
: "${settings=}" "${from_environment=}" "${from_command_line=}"
# Unknown variables on the command line of make.
: "${unknown_variables=}"
# Variables of the environment that change what make does before it reads the Makefile, or hide its goals.
: "${reserved=}"
# MAKE_RESTARTS: how often make has restarted after it updated an included file, if the variable is make's own; the process
# id of make.
: "${restarts=}" "${pid=}"
# Settings whose value contains a single $, which make would expand.
: "${dollars=}"
# The goals, the one-letter flags and all flags of make.
: "${goals=}" "${flags=}" "${makeflags=}"
# Targets that must be the only goal; that need no settings; that need no chip; all that are not in `bare`.
: "${alone=}" "${bare=}" "${any_chip=}" "${stages=}"
# The network's file name without ending; .venv's copy of requirements.txt, empty if PYTHON is given.
: "${network=}" "${environment=}"

# results/junit.xml of ROOT; empty as long as ROOT is not known to be usable.
junit=

# If the gate is a goal, replaces junit.xml of an earlier run by one that says that nothing was judged. The gate replaces
# it by its verdicts. So CI never reads old verdicts, wherever make stops. False if the old one cannot be removed; on a
# full disk it is only removed.
replace_junit() {
    case $flags in
        *[nq]*) return ;; # writes nothing
    esac
    if ! contains "$goals" verify && ! contains "$goals" verify-all; then return; fi
    rm -f -- "$junit"
    if [ -e "$junit" ] || ! mkdir -p -- "${junit%/*}"; then return 1; fi
    cat << 'END' > "$junit" || rm -f -- "$junit"
<?xml version='1.0' encoding='utf-8'?>
<testsuites>
  <testsuite name="accuracy gate" tests="1" failures="0" errors="1" skipped="0">
    <testcase classname="make" name="stages before the gate">
      <error message="not judged: a stage before the gate failed; see the output of make" />
    </testcase>
  </testsuite>
</testsuites>
END
} 2> /dev/null

# Prints an error message and stops. Line breaks and escape sequences of a value must not reach make or the terminal.
refuse() {
    case $1 in
        ok*) set -- "make: $1" ;; # a goal may be named ok, but only the line of an accepted call begins with ok
    esac
    if [ "$junit" ] && [ -d "${junit%/*}" ]; then replace_junit; fi
    printf '%s' "$1" | LC_ALL=C tr '\001-\037\177' '?'
    echo
    exit 0
}

# Rejects a host that lacks a program of this script, of the Makefile or of clean.sh. Without it an answer would be wrong.
check_programs() {
    missing=
    for name in awk cat cksum cmp cp date find grep head ls mkdir rm rmdir sed sha256sum sort stat tail tr uname uniq wc; do
        if ! command -v $name > /dev/null; then missing="$missing${missing:+ }$name"; fi
    done
    if [ "$missing" ]; then
        echo "$missing: not on PATH; install coreutils, diffutils, findutils, grep, sed and awk, or set PATH"
        exit 0
    fi
}

# Rejects the settings in the list $1 with the message $2, and adds where their values come from.
refuse_setting() {
    exported=
    for name in $1; do
        if contains "$from_environment" "$name"; then exported="$exported $name"; fi
    done
    if [ "$exported" ]; then refuse "$2 (in your environment: unset$exported)"; fi
    refuse "$2 (on the command line)"
}

# True if the list $1 contains the word $2.
contains() {
    for item in $1; do
        if [ "$item" = "$2" ]; then return 0; fi
    done
    return 1
}

# True if every goal is in the list $1.
all_goals_are_in() {
    for goal in $goals; do
        if ! contains "$1" "$goal"; then return 1; fi
    done
}

# Sets `words` to the words of $1, separated by single spaces.
split_words() {
    words=
    for item in $1; do words="$words${words:+ }$item"; done
}

# True if make can use the path $1 in its rules, where a space, a colon or a quote is special.
is_plain_path() {
    case $1 in
        -* | *//*) return 1 ;;
        # Bytes above 127 are letters of other alphabets. The x protects a line break at the end of $1.
        *[!A-Za-z0-9._/+-]*) [ "$(printf %s "$1" | LC_ALL=C tr -d 'A-Za-z0-9._/+\200-\377-' && echo x)" = x ] ;;
    esac
}

# True if $1 is a URL that contains no password and no query, which may contain a token.
is_plain_url() {
    case $1 in
        *[@?]* | *[[:space:][:cntrl:]]*) return 1 ;;
        http://?* | https://?*) return 0 ;;
        *) return 1 ;;
    esac
}

# True if $1 can be run. For a path, command -v of some shells only looks whether it exists.
is_program() {
    case $1 in
        */*) [ -f "$1" ] && [ -x "$1" ] ;;
        *) command -v -- "$1" > /dev/null 2>&1 ;;
    esac
}

# Rejects the setting $1 if its path $2 does not exist.
check_path() {
    if [ "$2" ] && [ ! -e "$2" ]; then
        refuse_setting "$1" "$1=$2: no such file or folder; check the path"
    fi
}

# Rejects the setting $1 if its value $2 is not 1, 0 or empty.
check_switch() {
    case $2 in
        '' | 0 | 1) ;;
        *) refuse_setting "$1" "$1=$2: not a switch; use 1 or 0" ;;
    esac
}

# Prints the settings that the goal $1 uses, apart from those that only say how make works.
settings_of_goal() {
    inputs="ROOT CHIP SOURCE PARAMS ARCHIVE WEIGHTS ONNX OM"
    case $1 in
        demo | setup | docs | check | pins | lock) ;;
        test) echo T ;;
        fuzz) echo T N ;;
        clean | clean-results | distclean) echo ROOT ;;
        doctor) echo ROOT CHIP PARAMS ARCHIVE WEIGHTS OM ;;
        report | audit-all) echo ROOT PARAMS ;;
        audit) echo ROOT PARAMS CHIP BS ;;
        reproduce) echo ROOT PARAMS BS ;;
        upstream) echo ROOT PARAMS SOURCE WEIGHTS ;;
        bench) echo ROOT BS PARAMS SOURCE ARCHIVE WEIGHTS ONNX OM ;; # the last two are refused with another message
        perf-all | best) echo "$inputs" FRESH ;;
        *-all) echo "$inputs" ;;
        perf) echo "$inputs" BS FRESH ;;
        compare) echo "$inputs" BS LAYERS ;;
        help) echo "$inputs" BS FRESH LAYERS ;;
        */perf.txt) echo "$inputs" BS FRESH ;;
        */*) echo "$inputs" BS ;; # a file
        *) echo "$inputs" BS ;;
    esac
}

# Prints the names of the list $2 that resemble a word of the list $1: upper and lower case are the same, and one letter
# in three may differ (Levenshtein distance); or else one of the two contains the other, from three letters on.
near_names() {
    asked=$1 names=$2 awk '
    function distance(a, b,    i, j, row, before, cost) {
        for (j = 0; j <= length(b); j++) before[j] = j
        for (i = 1; i <= length(a); i++) {
            row[0] = i
            for (j = 1; j <= length(b); j++) {
                cost = before[j - 1] + (substr(a, i, 1) != substr(b, j, 1))
                if (before[j] + 1 < cost) cost = before[j] + 1
                if (row[j - 1] + 1 < cost) cost = row[j - 1] + 1
                row[j] = cost
            }
            for (j = 0; j <= length(b); j++) before[j] = row[j]
        }
        return before[length(b)]
    }
    BEGIN {
        words = split(tolower(ENVIRON["asked"]), asked, " ")
        count = split(ENVIRON["names"], names, " ")
        for (i = 1; i <= words; i++) {
            close_names = part_names = ""
            for (j = 1; j <= count; j++) {
                name = tolower(names[j])
                shorter = length(asked[i]) < length(name) ? length(asked[i]) : length(name)
                longer = length(asked[i]) + length(name) - shorter
                if (distance(asked[i], name) <= int(longer / 3)) close_names = close_names " " names[j]
                else if (shorter > 2 && (index(name, asked[i]) || index(asked[i], name)))
                    part_names = part_names " " names[j]
            }
            near = near (close_names == "" ? part_names : close_names)
        }
        print substr(near, 2)
    }'
}

# Rejects the names $1 with the problem $2, and suggests names of the list $3.
refuse_unknown() {
    near=$(near_names "$1" "$3")
    refuse "$1: $2; ${near:+near: $near; }run make help for the list"
}

# Prints the chips whose names contain CHIP, or else those with the longest common beginning (at least two letters).
near_chips() {
    asked=$CHIP names=$chips awk 'BEGIN {
        asked = tolower(ENVIRON["asked"])
        gsub(/ascend| /, "", asked)
        count = split(ENVIRON["names"], names, " ")
        for (size = length(asked); size >= 2 && near == ""; size--)
            for (i = 1; i <= count; i++) {
                place = index(tolower(names[i]), substr(asked, 1, size))
                if (place == 1 || (place > 1 && size == length(asked))) near = near " " names[i]
            }
        print near == "" ? "none" : substr(near, 2)
    }'
}

# Sets `npu_smi` to the path of npu-smi and `nodes` to the driver's devices; both are empty on a host without an NPU. The
# folder of npu-smi is not on the PATH of every shell, so the usual ones are searched too. A file that this user must not
# run counts, and so do devices without npu-smi, as in a container: find_chip.py reports it.
find_npu() {
    npu_smi=
    IFS=:
    for folder in $PATH:/usr/local/sbin:/usr/local/bin; do
        if [ ! "$npu_smi" ] && [ -f "${folder:-.}/npu-smi" ]; then npu_smi=${folder:-.}/npu-smi; fi
    done
    unset IFS
    nodes=
    set +f
    for node in /dev/davinci[0-9]*; do
        if [ -e "$node" ]; then nodes="$nodes $node"; fi
    done
    set -f
}

# Sets `host` to what the stored chip is valid for: this boot, the devices, those that are visible, and the file npu-smi.
describe_host() {
    boot=
    { read -r boot < /proc/sys/kernel/random/boot_id; } 2> /dev/null || :
    # shellcheck disable=SC2012  # nothing parses the name
    file=$(ls -lLdi --time-style=full-iso -- "$npu_smi" 2> /dev/null || echo "$npu_smi")
    visible="${ASCEND_RT_VISIBLE_DEVICES-all} ${ASCEND_VISIBLE_DEVICES-all}"
    split_words "boot=$boot npu-smi=$file devices=$nodes visible=$visible"
    host=$words
}

# Sets CHIP to the chip that npu-smi shows. The file $1 stores it, so that the next make on this host starts no Python.
find_the_chip() {
    note=$1
    stored=
    stored_host=
    describe_host
    if [ -f "$note" ]; then { read -r stored stored_host < "$note"; } 2> /dev/null || :; fi
    if [ "$stored_host" = "$host" ] && contains "$chips" "$stored"; then
        CHIP=$stored
        return
    fi
    set --
    for item in $chips; do set -- "$@" "$item"; done
    case $flags in
        *[nq]*) ;; # writes nothing
        *) set -- "$@" --note "$note" --host "$host" ;;
    esac
    for item in $(python3 -E scripts/find_chip.py --chips "$@"); do CHIP=$item; done
    # find_chip.py has printed the reason to stderr.
    if ! contains "$chips" "$CHIP"; then refuse "CHIP: not found; see the line above"; fi
    if contains "$chips" "$stored" && [ "$stored" != "$CHIP" ]; then
        echo "make: CHIP=$CHIP is used now; at an earlier make npu-smi showed $stored" >&2
    fi
}

# Prints the folder of the engine of CHIP.
engine_folder() {
    engine=$(sed -n "/^chips:/,/^[^ #]/ s/^  *[\"']*${CHIP}[\"']* *:.*engine=\([A-Za-z0-9_]*\).*/\1/p" "$PARAMS")
    echo "scripts/engines/$engine"
}

# True if the engine of CHIP has numbered devices, for DEVICE.
chip_has_devices() { [ -f "$(engine_folder)/_find.py" ]; }

# True if CHIP runs .om files. An unknown engine is refused later, with its line in PARAMS.
chip_runs_om() {
    constants=$(engine_folder)/__init__.py
    [ ! -f "$constants" ] || grep -q '^ENDING = "om"' "$constants"
}

# Rejects goals that need python3 on a host without it, and a .venv that does not run, as after an update of Python.
check_python() {
    if [ "$PYTHON" ] && ! contains "$goals" doctor; then return; fi
    if [ -f "$environment" ] && [ ! -x .venv/bin/python ] && [ "$goals" != doctor ]; then
        refuse ".venv: its interpreter is missing, or not executable by this account; type: rm -r .venv, then make setup"
    fi
    if command -v python3 > /dev/null || [ -x .venv/bin/python ]; then return; fi
    refuse "python3: not on PATH; install Python 3.10 to 3.14 with venv, or add its folder to PATH"
}

# Rejects a report or an audit of a ROOT without results, before make writes .make into it.
check_results() {
    if [ -d "${prefix}results" ] && ! ls "${prefix}results/." > /dev/null 2>&1; then
        refuse "${prefix}results: permission denied; use the account that built ROOT=$ROOT"
    fi
    set +f
    for record in "${prefix}results"/*/bs*/*.json "${prefix}results"/*/bs*/*.txt; do
        if [ -e "$record" ]; then
            set -f
            return
        fi
    done
    refuse "${goals%% *}: ROOT=$ROOT has no results; run make accuracy with this ROOT=, or after make demo: make ${goals%% *} ROOT=demo"
}

# Prints a note for each of the settings in the list $1 that is on the command line and has no effect for the reason $2.
# make starts this script a second time after it has updated an included file.
note_unused() {
    for name in $1; do
        eval "value=\$$name"
        if [ "$value" ] && [ ! "$restarted" ] && contains "$from_command_line" "$name"; then
            printf '%s' "make: $name=$value has no effect: $2" | LC_ALL=C tr '\001-\037\177' '?' >&2
            echo >&2
        fi
    done
}

# Rejects a command of the setting $1, whose value is $2, that names a file which cannot be run. A command without a
# slash is searched later, on the PATH that set_env.sh sets. Values with quotes are left to the scripts.
check_command() {
    case $2 in *[\'\"\\]*) return ;; esac
    for word in $2; do
        case $word in
            *=*) continue ;; # a variable of the command's environment
            */*) if ! is_program "$word"; then refuse_setting "$1" "$1=$2: $word is not a program; check the path"; fi ;;
        esac
        return
    done
}

# Rejects the settings that name CANN's tools if they name nothing, for a goal that runs one of them.
check_tools() {
    check_command ATC "$ATC"
    check_command AIS_BENCH "$AIS_BENCH"
    check_path SET_ENV "$SET_ENV"
    if [ -d "$SET_ENV" ] && [ ! -e "$SET_ENV/set_env.sh" ]; then
        refuse_setting SET_ENV "SET_ENV=$SET_ENV: contains no set_env.sh; set it to the path of CANN's set_env.sh"
    fi
}

# True if a goal runs the compiled model.
runs_the_model() {
    for goal in $goals; do
        case $goal in
            infer | accuracy* | compare | verify* | perf* | best | */results/* | results/*) return 0 ;;
        esac
    done
    return 1
}

# True if a goal compiles the model or runs it.
uses_the_model() {
    if runs_the_model; then return 0; fi
    for goal in $goals; do
        case $goal in
            om | om-all | */models/om/* | models/om/*) return 0 ;;
        esac
    done
    return 1
}

# Rejects a comparison of the user's own .om with a network that has nothing to do with it: without a checkpoint or a
# graph in ROOT, make would download the official checkpoint.
check_reference() {
    if [ "$WEIGHTS$own_onnx" ] || [ "$SOURCE" = sample ] || [ -e "${prefix}models/checkpoint.pkl" ]; then return; fi
    for goal in $goals; do
        case $goal in
            compare) size=$BS ;;
            */bs*/compare.txt)
                size=${goal%/compare.txt}
                size=${size##*/bs}
                ;;
            *) continue ;;
        esac
        case ,$own_sizes${OM:+,$BS}, in
            *,"$size",*)
                refuse "compare: ROOT=$ROOT has no checkpoint or graph to compare your .om with; set WEIGHTS= to its checkpoint, or run make onnx ONNX= first"
                ;;
        esac
    done
}

# True if inputs.mk in the folder `state` is complete, with the digest of its other lines in the first one, and has only
# lines that sync_inputs.py writes: make includes the file, so any other line could run commands.
has_own_inputs() {
    { IFS= read -r stated && computed=$(sha256sum); } < "$state/inputs.mk" || return 1
    if [ "$stated" != "# sha256 ${computed%% *}" ]; then return 1; fi
    variable='(batch_sizes|chips|(input|uses|flags|engine|ending|int8|uint8)\.[A-Za-z0-9_.-]+)'
    # grep is slower in other locales. Its exit status is 1 if all lines match.
    LC_ALL=C grep -Eqv "^# [A-Za-z0-9 _.;/]+$|^$variable :=([A-Za-z0-9_.,:/=+~' -]|[$]\\(state\\)/)*$" "$state/inputs.mk"
    [ $? = 1 ]
}

# Sets `restarted` if this make wrote inputs.mk and has restarted. The environment may contain MAKE_RESTARTS too, so the
# recipe of inputs.mk stores the process id of make in a file, which is removed here. Sets `state` to the folder that make
# then uses: ROOT/.make, or its copy under -n and -q.
find_restart() {
    case $restarts,$flags in
        ,*) return ;;
        *,*[nq]*) folder=${TMPDIR:-/tmp} folder=${folder%/}/make-state-$pid ;; # see copy_state.sh
        *) folder=$state ;;
    esac
    stored=
    if [ -f "$folder/restarted" ]; then
        read -r stored < "$folder/restarted" || :
        rm -f -- "$folder/restarted"
    fi
    if [ "$stored" = "$pid" ]; then
        restarted=" restarted=yes"
        state=$folder
    fi
}

# Sets `special` if .make has a named pipe or the like in place of a file that is read while make starts: make would wait
# for it forever. The Makefile removes it. A folder may hold somebody's files, so it is refused.
find_special_files() {
    set +f
    set -- "$state/inputs.mk" "$state/restarted" "$state"/given/*
    set -f
    for file in "$@"; do
        if [ -d "$file" ]; then
            refuse "$file: a folder, where make writes a file; type: rm -r $file, then the same make command"
        fi
        if [ -e "$file" ] && [ ! -f "$file" ]; then special=yes; fi
    done
}

# Prints the values of an accepted call and stops.
accept() {
    if ! replace_junit; then
        refuse "$junit: cannot be replaced, and must not show the verdicts of an earlier run; check its owner and permissions"
    fi
    if [ -e "${prefix}data/archive.tar.gz" ] && [ -e "${prefix}models/checkpoint.pkl" ] && ! contains "$goals" upstream; then
        note_unused MIRROR "nothing is downloaded: ROOT has archive and checkpoint"
    fi
    inputs=
    if [ -f "$state/inputs.mk" ] && ! has_own_inputs; then
        if [ "$restarted" ]; then refuse "$state/inputs.mk: damaged since make wrote it; run the same command again"; fi
        inputs=damaged
    fi
    if [ "$special" ]; then inputs=special; fi
    set -- "chip=$CHIP" "root=$ROOT" "source=$SOURCE" "params=$PARAMS" "fallback=$fallback"
    if [ "$DEVICE" ] && [ "$chips" ] && chip_has_devices; then numbered=" numbered=yes"; else numbered=; fi
    printf '%s\n' "ok $* own_onnx=$own_onnx own_sizes=$own_sizes inputs=$inputs$numbered$restarted$begun"
    exit 0
}

# Sets PARAMS to the file with the settings: the given one, else the one that ROOT remembers, else params.yaml.
find_params() {
    remembered=
    if [ ! "$PARAMS" ]; then
        if [ -f "${prefix}.make/given/params" ]; then
            { read -r remembered < "${prefix}.make/given/params"; } 2> /dev/null || :
        fi
        PARAMS=${remembered:-params.yaml}
    fi
    if ! is_plain_path "$PARAMS"; then
        refuse_setting PARAMS \
            "PARAMS=$PARAMS: not usable as a file name; use only letters, digits and . _ / + -, and do not begin with -"
    fi
    if [ "$remembered" ] && [ ! -f "$PARAMS" ]; then
        refuse "PARAMS: ROOT=$ROOT was built with $PARAMS, which is not a file now; set PARAMS= to another file, such as params.yaml"
    fi
    if [ "$PARAMS" = params.yaml ] && [ -e params.yaml ] && [ ! -f params.yaml ]; then
        refuse "params.yaml: not a file; remove it, and restore the params.yaml of the project"
    fi
    if [ "$PARAMS" != params.yaml ] && [ ! -f "$PARAMS" ]; then
        refuse_setting PARAMS "PARAMS=$PARAMS: not a file; copy params.yaml to it and edit the copy"
    fi
    # The limit of scripts/params/read.py. sed would hold a file without line breaks in memory.
    if [ "$PARAMS" != params.yaml ] && [ "$(wc -c < "$PARAMS" 2> /dev/null || echo 0)" -gt 262144 ]; then
        refuse_setting PARAMS "PARAMS=$PARAMS: larger than 256 KB; copy params.yaml to it and edit the copy"
    fi
}

# Prints a note if make has built in ROOT, but the file that names its settings file is gone.
note_forgotten_settings() {
    if [ "$restarted" ] || contains "$from_environment $from_command_line" PARAMS; then return; fi
    if [ ! -f "${prefix}.make/given/params" ] && [ -f "${prefix}data/bin/manifest.json" ]; then
        echo "make: the settings file of ROOT=$ROOT is not known, because .make is gone: params.yaml is used, or set PARAMS=" >&2
    fi
}

# Sets `chips` to the keys of the block `chips:` of PARAMS, which ends at the next line that is not indented, and
# `fallback` to the first of them, which every machine can run.
read_chips() {
    split_words "$(sed -n "/^chips:/,/^[^ #]/ s/^  *[\"']*\([A-Za-z0-9_-]*\)[\"']* *:.*/\1/p" "$PARAMS" 2> /dev/null)"
    chips=$words
    if [ -e "$PARAMS" ] && [ ! -r "$PARAMS" ]; then refuse "$PARAMS: permission denied; check its owner and permissions"; fi
    if [ ! "$chips" ]; then
        refuse "$PARAMS: contains no block chips: with a line for each chip; write it as in the params.yaml of the project"
    fi
    fallback=${chips%% *}
}

check_programs
split_words "$BS"
BS=$words
split_words "$CHIP"
CHIP=$words
split_words "${goals:-help}"
goals=$words
ROOT=${ROOT:-.}
own_onnx=
own_sizes=
begun=
restarted=
special=
fallback=
chips=
tools="ATC AIS_BENCH SET_ENV"

# ROOT in front of a path, as the Makefile writes it.
case $ROOT in
    . | ./) prefix= ;;
    *) prefix=${ROOT#./} ;;
esac
prefix=${prefix%/}${prefix:+/}
state=${prefix}.make
if is_plain_path "$ROOT"; then junit=${prefix}results/junit.xml; fi

# What may have changed make's rules or goals. The goals are not known then, so no old verdict is kept.
split_words "$reserved"
if [ "$words" ]; then
    goals=verify
    refuse "$words: changes what make does (in your environment); unset $words"
fi
for word in $makeflags; do
    case $word in
        --) break ;; # variables follow
        --eval* | -E*)
            goals=verify
            refuse "make --eval: changes the rules; run make without --eval"
            ;;
    esac
done
case " $unknown_variables " in
    *" MAKECMDGOALS "*) goals=verify ;;
esac
split_words "$unknown_variables"
case $words in
    BATCH | BATCH_SIZE | BATCHSIZE | batch | batch_size | batchsize) refuse "$words: unknown variable; near: BS; run make help for the list" ;;
esac
if [ "$words" ]; then
    refuse_unknown "$words" "unknown variable" "$settings"
fi

for name in $dollars; do
    refuse_setting "$name" "$name: contains a \$, which make would expand; write \$\$ for one"
done
if ! is_plain_path "$ROOT"; then
    refuse_setting ROOT \
        "ROOT=$ROOT: not usable as a folder; use only letters, digits and . _ / + -, and do not begin with -"
fi
# In these folders data/, models/ and results/ belong to others.
if [ "$prefix" ]; then
    here=$(pwd -P)
    real=$(cd -P -- "$ROOT" 2> /dev/null && pwd -P)
    below=${real:-${prefix%/}}
    below=${below#"$here"/}
    case $here/ in
        "${real:-no folder yet}"/*) refuse_setting ROOT \
            "ROOT=$ROOT: the project's folder or one above it; omit ROOT, or use another folder" ;;
    esac
    case $real:$below/ in
        /:*) refuse_setting ROOT "ROOT=$ROOT: the root of the file system; use a folder below it" ;;
        :*[!./]*/../*) refuse_setting ROOT "ROOT=$ROOT: contains .. behind a folder that does not exist; write it without .." ;;
        *:.ci/* | *:.git/* | *:.github/* | *:.make/* | *:.venv/* | *:data/* | *:docs/* | *:models/* | *:patches/* | *:results/* | *:scripts/* | *:tests/*)
            refuse_setting ROOT "ROOT=$ROOT: a folder of the project; use another one"
            ;;
    esac
fi

# A goal is a target, or a file that a rule builds.
unknown=
for goal in $goals; do
    case ${goal#./} in
        "$prefix"data/* | "$prefix"models/* | "$prefix"results/* | "$prefix".make/*) ;;
        *) if ! contains "$bare $stages" "$goal"; then unknown="$unknown${unknown:+ }$goal"; fi ;;
    esac
done
if [ "$unknown" ]; then
    case ${unknown#./} in # one file
        data/*\ * | models/*\ * | results/*\ *) ;;
        data/* | models/* | results/*) refuse "$unknown: not below ROOT=$ROOT; use $prefix${unknown#./}, or omit ROOT" ;;
    esac
    case $unknown in
        */*) refuse "$unknown: not a file that make builds below ROOT=$ROOT; set ROOT= to the folder of data/ and results/" ;;
    esac
    refuse_unknown "$unknown" "unknown target" "$bare $stages"
fi

# A value on the command line that no goal uses is refused. A value of the environment may be for other programs.
used=
for goal in $goals; do used="$used $(settings_of_goal "$goal")"; done
unused=
for name in $from_command_line; do
    if contains "BS CHIP ROOT SOURCE PARAMS ARCHIVE WEIGHTS ONNX OM FRESH LAYERS T N" "$name" && ! contains "$used" "$name"; then
        eval "value=\$$name"
        # Empty values and ROOT=. are the defaults.
        if [ "$value" ] && [ "$name=$value" != ROOT=. ]; then unused="$unused${unused:+ }$name=$value"; fi
    fi
done
if [ "$unused" ]; then
    case "$goals $unused" in
        demo*" "[TN]=*) refuse "$unused: not used by make demo; omit it" ;;
        demo*ROOT=*) refuse "$unused: not used by make demo; run make accuracy SOURCE=sample $unused" ;;
        demo*) refuse "$unused: not used by make demo; run make accuracy SOURCE=sample ROOT=demo $unused" ;;
        *-all*BS=* | best*BS=*) refuse "$unused: not used by make $goals, which builds every size of batch_sizes; omit it" ;;
        *) refuse "$unused: not used by make $goals; omit it" ;;
    esac
fi

# These targets create or delete files that other goals read while the Makefile is parsed.
for goal in $goals; do
    if contains "$alone" "$goal" && [ "$goals" != "$goal" ]; then
        refuse "$goals: $goal must run alone; run one make command after the other"
    fi
done

# In the environment these two may be meant for other programs.
for name in V WHY; do
    eval "value=\$$name"
    if contains "$from_command_line" "$name"; then check_switch "$name" "$value"; fi
done
if [ "$PYTHON" ] && [ "$goals" = setup ] && contains "$from_command_line" PYTHON; then
    refuse "PYTHON=$PYTHON: not used by make setup, which creates .venv; omit it, or run another target with PYTHON= instead"
fi
if [ "$PYTHON" ] && ! is_program "$PYTHON"; then
    refuse_setting PYTHON "PYTHON=$PYTHON: no such program; omit it to use .venv"
fi
case $flags in
    *e*) refuse "make -e: replaces variables of the Makefile by those of your environment; run make without -e" ;;
    *i*) refuse "make -i: continues after a failure; run make without -i" ;;
    *k*)
        if contains "$goals" report && { contains "$goals" verify || contains "$goals" verify-all; }; then
            refuse "make -k: after a failed gate, report would replace its junit.xml; run make without -k"
        fi
        ;;
esac
case $flags in
    *t*) refuse "make -t: marks stale files as up to date; run make without -t" ;;
esac

if ! all_goals_are_in "help clean clean-results distclean"; then check_python; fi
if ! all_goals_are_in "help doctor clean clean-results distclean pins" && [ ! -s requirements.txt ]; then
    refuse "requirements.txt: missing or empty; restore the one of the project"
fi

# Targets without settings run whatever the environment contains: DEVICE=cuda must not stop make demo.
if all_goals_are_in "$bare"; then
    CHIP=
    case $SOURCE in
        cifar10 | sample) ;;
        *) SOURCE= ;;
    esac
    if contains "$goals" doctor; then find_params; else PARAMS=params.yaml; fi
    if contains "$goals" demo || contains "$goals" lock; then read_chips; fi
    if ! contains "$goals" doctor && ! contains "$goals" help; then
        note_unused DEVICE "make $goals runs on no device"
        note_unused "$tools" "make $goals does not use it"
    fi
    accept
fi

case $BS in
    [1-9] | [1-5][0-9] | 6[0-4]) ;;
    *) refuse_setting BS "BS=$BS: not a batch size; use a whole number from 1 to 64" ;;
esac
case $SOURCE in
    '' | cifar10 | sample) ;;
    *) refuse_setting SOURCE "SOURCE=$SOURCE: unknown source; use cifar10 or sample" ;;
esac
case ,$DEVICE, in
    ,,) ;;
    *[!0-9,]* | *,,* | *[0-9][0-9][0-9][0-9]*)
        refuse_setting DEVICE "DEVICE=$DEVICE: not a device number; use one, or several as 0,1"
        ;;
esac
twice=
case $DEVICE in
    *,*) twice=$(printf '%s\n' "$DEVICE" | tr , '\n' | sed 's/^0*\([0-9]\)/\1/' | sort | uniq -d | head -n 1) ;;
esac
if [ "$twice" ]; then refuse_setting DEVICE "DEVICE=$DEVICE: device $twice twice; name each device once"; fi
if contains "$used" FRESH; then check_switch FRESH "$FRESH"; fi
if contains "$used" LAYERS; then check_switch LAYERS "$LAYERS"; fi
check_switch WHY "$WHY"
if contains "$used" T; then check_path T "${T%%::*}"; fi
if contains "$goals" fuzz; then
    case $N in
        '' | 0* | *[!0-9]* | ??????????*)
            refuse_setting N "N=$N: not a number of inputs; use a whole number from 1 to 999999999"
            ;;
    esac
fi

# The value may contain a password, so it is not printed.
if [ "$MIRROR" ] && ! is_plain_url "$MIRROR"; then
    refuse_setting MIRROR "MIRROR: not an http or https URL, or one with a password or a query; use http://host/folder"
fi

# A compiled model needs no graph and has one batch size.
if [ "$OM" ]; then
    if [ "$ONNX" ]; then
        refuse_setting "OM ONNX" "OM: a compiled model for one BS; use either OM or ONNX"
    fi
    for goal in $goals; do
        case $goal in
            *-all | best) refuse_setting OM "OM: a compiled model for one BS; run make $goal without OM" ;;
        esac
    done
fi
check_path ARCHIVE "$ARCHIVE"
check_path WEIGHTS "$WEIGHTS"
check_path ONNX "$ONNX"
check_path OM "$OM"

# make rebuilds included files even under -n and -q, which needs the packages in .venv.
case $flags in
    *[nq]*)
        if [ "$environment" ] && ! cmp -s requirements.txt "$environment"; then
            refuse "${environment%/*}: missing or outdated, and make -n and -q install nothing; run make setup first"
        fi
        folder=${TMPDIR:-/tmp}
        if ! is_plain_path "$folder"; then
            refuse "TMPDIR=$folder: not usable under make -n and -q; use only letters, digits and . _ / + -"
        elif [ ! -d "$folder" ] || [ ! -w "$folder" ]; then
            refuse "TMPDIR=$folder: not a folder that make -n and -q can write to; set TMPDIR to another folder"
        fi
        ;;
esac

# Without inputs, make bench uses the sample in ROOT=demo.
if [ "$goals" = bench ]; then
    if [ "$ONNX$OM" ]; then
        refuse_setting "${ONNX:+ONNX} ${OM:+OM}" "bench: only compares graphs of the checkpoint; omit ONNX and OM"
    fi
    if [ ! -e "${prefix}data/archive.tar.gz" ] && [ ! -e "${prefix}models/checkpoint.pkl" ] &&
        [ -z "$SOURCE$ARCHIVE$WEIGHTS" ]; then
        case $prefix in
            '' | demo/) ;;
            *)
                refuse_setting ROOT \
                    "bench: ROOT=$ROOT contains no inputs; run make accuracy there first, or omit ROOT to use the sample"
                ;;
        esac
        ROOT=demo
        SOURCE=sample
        prefix=demo/
        state=demo/.make
    fi
fi

# Behind a linked folder of .make, make would write and remove files. sync_inputs.py looks at the files in it.
for name in .make .make/given .make/locks .make/params .make/scripts; do
    if [ -L "$prefix$name" ]; then
        refuse "$prefix$name: a link, behind which make would write or remove files; type: rm -f $prefix$name, then the same make command"
    fi
done

find_restart
find_special_files
find_params
note_forgotten_settings
read_chips

# The chips of goals that are files of a chip.
file_chips=
for goal in $goals; do
    path=${goal#./}
    case $path in
        "$prefix"results/*) path=${path#"$prefix"results/} ;;
        "$prefix"models/om/*) path=${path#"$prefix"models/om/} ;;
        *) continue ;;
    esac
    if contains "$chips" "${path%%/*}"; then file_chips="$file_chips${file_chips:+ }${path%%/*}"; fi
    size=
    case $path in
        */bs[1-9]/* | */bs[1-9][0-9]/*) size=${path#*/bs} size=${size%%/*} ;;
        */*_bs[1-9].* | */*_bs[1-9][0-9].*) size=${path##*_bs} size=${size%%.*} ;;
    esac
    if [ "$size" ] && [ "$size" != "$BS" ] && contains "$from_command_line" BS; then
        refuse_setting BS "$goal: a file of another batch size than BS=$BS; use BS=$size, or omit BS"
    fi
done

if [ "$CHIP" ]; then
    if ! contains "$chips" "$CHIP"; then
        refuse_setting CHIP "CHIP=$CHIP: unknown chip; near: $(near_chips); all: $chips"
    fi
    for chip in $file_chips; do
        if [ "$chip" != "$CHIP" ]; then
            refuse_setting CHIP "$chip: a file of another chip than CHIP=$CHIP; use CHIP=$chip, or omit CHIP"
        fi
    done
elif [ "$file_chips" ]; then
    CHIP=${file_chips%% *}
    for chip in $file_chips; do
        if [ "$chip" != "$CHIP" ]; then
            refuse "$chip: a file of another chip than CHIP=$CHIP of the first file; run make once for each chip"
        fi
    done
elif all_goals_are_in "$bare $any_chip"; then
    CHIP=$fallback
else
    find_npu
    if [ "$npu_smi$nodes" ]; then find_the_chip "${prefix}.make/chip-$(uname -n)"; else CHIP=$fallback; fi
fi

if [ "$OM" ] && contains "$used" OM && ! chip_runs_om; then
    refuse_setting OM "OM=$OM: chip $CHIP does not run .om files; set CHIP= to a chip that does"
fi
if [ "$LAYERS" = 1 ] && contains "$goals" compare; then
    engine=$(engine_folder)
    if [ -e "$engine/__init__.py" ] && [ ! -e "$engine/layers.py" ]; then
        refuse_setting LAYERS "LAYERS=1: the engine of chip $CHIP cannot output intermediate tensors; use CHIP=$fallback"
    fi
fi
if all_goals_are_in "report audit audit-all"; then check_results; fi

# A model that was passed to an earlier make stays in use. Its record shows its origin.
onnx=${prefix}models/onnx/$network.onnx
om=${prefix}models/om/$CHIP/${network}_bs
set +f
set -- "${onnx%.onnx}.json" "${prefix}models/om/$CHIP"/bs[1-9].json "${prefix}models/om/$CHIP"/bs[1-6][0-9].json
set -f
records=$(grep -ls -D skip '"origin": "given"' "$@")
for record in $records; do
    size=${record##*/bs}
    size=${size%.json}
    if [ "$record" = "$1" ]; then
        if [ -e "$onnx" ]; then own_onnx=yes; fi
    elif [ -e "$om$size.om" ]; then
        own_sizes="$own_sizes${own_sizes:+,}$size"
    fi
done
if [ "$WEIGHTS" ] && [ ! "$ONNX" ] && [ "$own_onnx" ]; then
    refuse_setting WEIGHTS "WEIGHTS: not used while your own $onnx exists; remove it first"
fi
case ,$own_sizes, in
    *,"$BS",*)
        if [ "$ONNX" ]; then
            refuse_setting ONNX "ONNX: not used while your own $om$BS.om exists; remove it first"
        fi
        ;;
esac
check_reference
if [ "$DEVICE" ]; then
    if ! runs_the_model; then
        note_unused DEVICE "make $goals runs on no device"
    elif ! chip_has_devices; then
        note_unused DEVICE "chip $CHIP has no device numbers"
    else
        case " $goals" in
            *" perf"* | *" best"* | */perf.txt*)
                case $DEVICE in
                    *,*) refuse_setting DEVICE "DEVICE=$DEVICE: only one device can be measured at a time; set DEVICE= to one number" ;;
                esac
                ;;
        esac
    fi
fi
if [ "$ATC$AIS_BENCH$SET_ENV" ]; then
    if ! uses_the_model; then
        note_unused "$tools" "make $goals does not use it"
    elif chip_has_devices; then
        check_tools
        begun=" begun=$(date +%s)"
        if ! runs_the_model; then note_unused AIS_BENCH "make $goals does not use it"; fi
    else
        note_unused "$tools" "chip $CHIP does not use it"
    fi
fi
accept
