# count-tests.awk: reads meson's testlog.txt, prints "passed failed skipped".
#
# A cmocka program counts by its test functions: each "RUN" that is followed by
# neither OK nor SKIPPED has failed, a crash included. Any other program counts
# as one, by its exit status (77: skipped). With -v list=1 the failed and the
# skipped are named on stderr.
function finish(   bad)
{
    if (name == "")
        return
    bad = run - ok - skip
    if (run == 0) {
        if (result == "exit status 0") passed++
        else if (result == "exit status 77") { skipped++; note("skipped", name) }
        else { failed++; note("FAILED", name ": " result) }
    } else {
        # an exit status that no test function explains: leaks, a sanitizer
        if (bad == 0 && result != "exit status 0") {
            bad = 1
            ok--
            note("FAILED", name ": " result)
        } else if (bad > 0)
            note("FAILED", name ": " bad " of " run ", " result)
        if (skip > 0)
            note("skipped", name ": " skip " of " run)
        passed += ok
        failed += bad
        skipped += skip
    }
    name = ""
}
function note(what, text)
{
    if (list)
        print "  " what ": " text > "/dev/stderr"
}
/^=+ [0-9]+\/[0-9]+ =+$/          { finish(); run = ok = skip = out = 0; result = "" ; next }
/^test: / && name == ""           { name = $0; sub(/^test: +/, "", name); next }
/^result: / && result == ""       { result = $0; sub(/^result: +/, "", result); next }
/^-+ stdout -+$/                  { out = 1; next }
/^-+ stderr -+$/                  { out = 0; next }
/^Summary of Failures:/           { finish() }
/^Ok: /                           { finish() }
out && /\[ RUN      \] /          { run++ }
out && /\[       OK \] /          { ok++ }
out && /\[  SKIPPED \] /          { skip++ }
END { finish(); print passed + 0, failed + 0, skipped + 0 }
