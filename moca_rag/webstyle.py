"""How the page of a judgement looks, by day and by night."""

STYLE = """
:root { color-scheme: light dark;
  --paper: #fbfaf7; --card: #ffffff; --ink: #22252b; --soft: #6c7078; --line: #e3e0d8;
  --bar: #b9d3ea; --deep: #1f5f99; --good: #2c7a4b; --bad: #b4472d; --heat: 31 95 153; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #16181c; --card: #1e2126; --ink: #e6e4df; --soft: #989ca5; --line: #33373e;
  --bar: #2b4c6b; --deep: #8fc1ee; --good: #7fcf9c; --bad: #ee9a80; --heat: 120 180 235; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0; letter-spacing: -.01em; }
header p { margin: 6px 0 0; color: var(--soft); }
.notes { margin: 14px 0 0; padding: 10px 14px 10px 30px; border: 1px solid var(--line); border-left: 3px solid var(--bad);
  border-radius: 6px; background: var(--card); }
section { margin-top: 44px; }
h2 { font-size: 19px; margin: 0 0 12px; }
small { font-size: 12px; font-weight: 400; color: var(--soft); }
h2 small { margin-left: 8px; font-size: 13px; }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  border-spacing: 0; border-collapse: separate; overflow: hidden; font-variant-numeric: tabular-nums; }
th, td { padding: 9px 12px; text-align: right; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; font-size: 12px; font-weight: 600; color: var(--soft); white-space: nowrap; }
tbody th, th.wide { text-align: left; }
tbody th { font-weight: 600; white-space: nowrap; }
td small { display: block; line-height: 1.2; white-space: nowrap; }
.chance, .chance th, .dim { color: var(--soft); font-weight: 400; }
svg { display: block; width: 100%; min-width: 150px; height: 14px; margin-top: 4px; border-radius: 3px; overflow: hidden; }
.track { fill: var(--line); opacity: .55; } .bar { fill: var(--bar); }
.interval, .tick { stroke: var(--deep); stroke-width: 2; vector-effect: non-scaling-stroke; }
.tick { stroke: var(--bad); }
.heat { background: rgb(var(--heat) / calc(var(--share) * .45)); }
section > p { margin: 10px 2px 0; }
article { display: grid; grid-template-columns: 230px 1fr 1fr; gap: 20px; align-items: start; margin-top: 16px;
  padding: 18px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; break-inside: avoid; }
article h3 { margin: 0 0 10px; font-size: 16px; line-height: 1.35; overflow-wrap: anywhere; }
article dl { margin: 12px 0 0; display: grid; grid-template-columns: auto 1fr; gap: 2px 12px; font-size: 13px;
  font-variant-numeric: tabular-nums; }
article dt { color: var(--soft); } article dd { margin: 0; }
.kind { margin-right: 8px; padding: 1px 8px; border-radius: 9px; font-size: 12px; color: var(--deep);
  border: 1px solid var(--line); }
figure { margin: 0; min-width: 0; }
figure p { margin: 0; padding: 28px 18px; color: var(--soft); border: 1px dashed var(--line); border-radius: 4px;
  overflow-wrap: anywhere; }
figcaption { margin-bottom: 6px; font-size: 13px; overflow-wrap: anywhere; }
figcaption small { display: block; min-height: 1.5em; }
.wanted b, .better b { color: var(--good); } .got b, .worse b { color: var(--bad); }
img { display: block; width: 100%; border: 1px solid var(--line); border-radius: 4px; }
@media (prefers-color-scheme: dark) { img { filter: brightness(.88); } }
@media (max-width: 760px) { section { overflow-x: auto; } article { grid-template-columns: 1fr; } }
footer { margin-top: 48px; padding-top: 16px; border-top: 1px solid var(--line); font-size: 13px; color: var(--soft); }
footer p { margin: 4px 0; } code { overflow-wrap: anywhere; }
"""
