#!/usr/bin/env bash
# The paper's ablations (tables 2 and 3) in miniature: every run begins with the same base and takes the same steps of each
# stage that it has; each model is judged on the same exams, and compared with the full one question by question. All have
# one vector a page, since a causal one can have no more.
#
#     bash train/ablations.sh OUT [SHARE] [NAME...]
#
# OUT is that of train/tiny.sh, which made the corpus, the base and the exams there. SHARE scales the steps as it does there.
# NAME chooses runs: full without-cpt causal without-mlm without-mae mixed-tasks (all of them).
set -euo pipefail

out=${1:?usage: bash train/ablations.sh OUT [SHARE] [NAME...]}
share=${2:-1}
names=("${@:3}")
[ ${#names[@]} -gt 0 ] || names=(full without-cpt causal without-mlm without-mae mixed-tasks)
source "$(dirname "$0")/recipe.sh"

for name in "${names[@]}"; do
    cpt=() cl=() start="$out/ablations/$name/cpt"
    case $name in
        full) ;;
        without-cpt) start="$out/base" ;;
        causal) cpt=(bidirectional=false) cl=(bidirectional=false) ;;
        without-mlm) cpt=(mlm_weight=0) ;;
        without-mae) cpt=(mae_weight=0) ;;
        mixed-tasks) cl=(task_aware=false) ;;
        *) echo "there is no ablation $name" >&2; exit 2 ;;
    esac
    if [ "$name" != without-cpt ]; then
        moca train cpt tiny-pages model="$(newest "$out/base")" out="$start" steps="$(steps 4000)" \
            data="$(composed train 400000)" held_out="$(composed dev 128)" "${cpt[@]}"
    fi
    moca train cl tiny-pages model="$(newest "$start")" out="$out/ablations/$name/cl" steps="$(steps 6000)" regions=1 \
        data="$(composed train 1200000)" held_out="$(composed dev 256)" "${cl[@]}"
    for kind in clean scans; do
        moca eval folder "$out/exam-$kind" --modes vision --model "$(newest "$out/ablations/$name/cl")" \
            --cache "$out/ablations/$name/judged" > /dev/null
    done
done
python benchmarks/ablations.py "$out/ablations" "${names[@]}"
