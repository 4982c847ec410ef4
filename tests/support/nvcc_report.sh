#!/bin/sh
# A launcher of nvcc: what ptxas says of registers and spills goes to OBJECT.ptxas, beside the object, everything else to the
# standard error as usual. The compiler's command line follows.
object=
previous=
for argument in "$@"; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
[ -n "$object" ] || exec "$@"
said=$object.said
"$@" 2>"$said"
code=$?
report='^(ptxas )?info *:|^ *ptxas info|bytes stack frame|^ *[0-9]+ bytes'
grep -E "$report" "$said" >"$object.ptxas"
grep -Ev "$report" "$said" >&2
rm -f "$said"
exit $code
