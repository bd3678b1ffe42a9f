# What train/tiny.sh and train/ablations.sh share; `out` and `share` are set by them.

steps() { awk -v whole="$1" -v share="$share" 'BEGIN { n = int(whole * share + 0.5); print (n > 20 ? n : 20) }'; }
newest() { ls -d "$1"/checkpoints/step-* | tail -n 1; }
pages() { # split, rows, questions a page, pages of one document together
    local of="path: $out/corpus/documents-$1.jsonl.gz, format: composed, images: $out/corpus/fonts/$1"
    echo "{$of, limit: $2, questions: ${3:-1}, neighbours: ${4:-1}}"
}
composed() { echo "[$(pages "$@")]"; }
and_texts() { # the same pages beside texts: passages of the documents, and the lists that WORDS names
    local list texts="{path: $out/corpus/documents-$1.jsonl.gz, format: passages, limit: 400000, batch_size: 64, negatives: 0}"
    for list in ${WORDS:-}; do texts+=", {path: $list, format: lines, batch_size: 128}"; done
    echo "[$(pages "$@"), $texts]"
}
