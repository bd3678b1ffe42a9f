# What train/tiny.sh and train/ablations.sh share; `out` and `share` are set by them.

steps() { awk -v whole="$1" -v share="$share" 'BEGIN { n = int(whole * share + 0.5); print (n > 20 ? n : 20) }'; }
newest() { ls -d "$1"/checkpoints/step-* | tail -n 1; }
composed() { # split, rows, questions a page, pages of one document together
    local of="path: $out/corpus/documents-$1.jsonl.gz, format: composed, images: $out/corpus/fonts/$1"
    echo "[{$of, limit: $2, questions: ${3:-1}, neighbours: ${4:-1}}]"
}
