#!/usr/bin/env bash
# moca-tiny from nothing: corpus, tokenizer, reading, base, both stages of the paper, exams on what nobody has seen.
#
#     TEACHER=FOLDER bash train/tiny.sh OUT [SHARE]
#
# SHARE scales the steps of all runs (1 is the whole recipe, 0.02 an evening on two cores). Each command goes on where it
# was stopped, so the script can be stopped and started at will. Needs a Debian machine for the corpus, or OUT/corpus.
# TEACHER is a sentence encoder of sentence-transformers that words learn their meanings from (all-MiniLM-L6-v2 was taken);
# without one they have spellings only.
set -euo pipefail

out=${1:?usage: bash train/tiny.sh OUT [SHARE]}
share=${2:-1}
source "$(dirname "$0")/recipe.sh"

mkdir -p "$out"
texts=(documents="$out/corpus/documents-train.jsonl.gz")
aside=(held_out_documents="$out/corpus/documents-dev.jsonl.gz" held_out_faces="$out/corpus/fonts/dev")
teacher=()
[ -z "${TEACHER:-}" ] || teacher=(--teacher "$TEACHER")

[ -e "$out/corpus" ] || moca data corpus "$out/corpus"
[ -e "$out/new" ] || moca model new "$out/corpus/documents-train.jsonl.gz" "$out/new" "${teacher[@]}"
if [ ! -e "$out/fonts-first" ]; then # the usual faces, to begin with
    mkdir "$out/fonts-first"
    for face in Liberation DejaVuSans DejaVuSerif texgyretermes texgyreheros lmroman lmsans Lato Roboto NotoSerif Inter Caladea; do
        cp "$out/corpus/fonts/train/$face"* "$out/fonts-first/" 2> /dev/null || true
    done
fi

moca train base tiny-read-first model="$out/new" "${texts[@]}" faces="$out/fonts-first" "${aside[@]}" \
    out="$out/read-first" steps="$(steps 5000)"
moca train base tiny-read model="$(newest "$out/read-first")" "${texts[@]}" faces="$out/corpus/fonts/train" "${aside[@]}" \
    out="$out/read" steps="$(steps 120000)"
moca train base tiny-base model="$(newest "$out/read")" "${texts[@]}" faces="$out/corpus/fonts/train" "${aside[@]}" \
    out="$out/base" steps="$(steps 10000)"
moca train cpt tiny-pages model="$(newest "$out/base")" out="$out/cpt" steps="$(steps 4000)" \
    data="$(composed train 400000)" held_out="$(composed dev 128)"
moca train cl tiny-pages model="$(newest "$out/cpt")" out="$out/cl" steps="$(steps 6000)" \
    data="$(composed train 1200000 4 4)" held_out="$(composed dev 256)"

for kind in clean scans; do
    [ -e "$out/exam-$kind" ] || moca data exam "$out/corpus/documents-dev.jsonl.gz" "$out/corpus/fonts/dev" \
        "$out/exam-$kind" --pages 1000 $([ "$kind" = scans ] && echo --scans)
    moca eval folder "$out/exam-$kind" --modes vision --model "$(newest "$out/cl")" --report "$out/exam-$kind.html"
done
