#!/usr/bin/env bash
# moca-tiny from nothing: corpus, tokenizer, reading, base, both stages of the paper, exams on what nobody has seen.
#
#     bash train/tiny.sh OUT [SHARE]
#
# SHARE scales the steps of all runs (1 is the whole recipe, 0.02 an evening on two cores). Each command goes on where it
# was stopped, so the script can be stopped and started at will. Needs a Debian machine for the corpus, or OUT/corpus.
set -euo pipefail

out=${1:?usage: bash train/tiny.sh OUT [SHARE]}
share=${2:-1}

steps() { awk -v whole="$1" -v share="$share" 'BEGIN { n = int(whole * share + 0.5); print (n > 20 ? n : 20) }'; }
newest() { ls -d "$1"/checkpoints/step-* | tail -n 1; }
composed() { echo "[{path: $out/corpus/documents-$1.jsonl.gz, format: composed, images: $out/corpus/fonts/$1, limit: $2}]"; }

mkdir -p "$out"
texts="documents=$out/corpus/documents-train.jsonl.gz faces=$out/corpus/fonts/train"
aside="held_out_documents=$out/corpus/documents-dev.jsonl.gz held_out_faces=$out/corpus/fonts/dev"

[ -e "$out/corpus" ] || moca data corpus "$out/corpus"
[ -e "$out/new" ] || moca model new "$out/corpus/documents-train.jsonl.gz" "$out/new"

# shellcheck disable=SC2086
moca train base tiny-read model="$out/new" $texts $aside out="$out/read" steps="$(steps 60000)"
# shellcheck disable=SC2086
moca train base tiny-base model="$(newest "$out/read")" $texts $aside out="$out/base" steps="$(steps 10000)"
moca train cpt tiny-pages model="$(newest "$out/base")" out="$out/cpt" steps="$(steps 4000)" \
    data="$(composed train 400000)" held_out="$(composed dev 128)"
moca train cl tiny-pages model="$(newest "$out/cpt")" out="$out/cl" steps="$(steps 6000)" \
    data="$(composed train 1200000)" held_out="$(composed dev 256)"

for kind in clean scans; do
    [ -e "$out/exam-$kind" ] || moca data exam "$out/corpus/documents-dev.jsonl.gz" "$out/corpus/fonts/dev" \
        "$out/exam-$kind" --pages 1000 $([ "$kind" = scans ] && echo --scans)
    moca eval folder "$out/exam-$kind" --modes vision --model "$(newest "$out/cl")" --report "$out/exam-$kind.html"
done
