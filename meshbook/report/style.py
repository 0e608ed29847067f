"""The looks of the index page: one style sheet by hand, no fonts and no scripts from anywhere."""

from __future__ import annotations

STYLE = """
:root { --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --paper: #fff; --ground: #f5f7f9;
  --pass: #14713d; --pass-bg: #e3f4ea; --fail: #b3261e; --fail-bg: #fde9e7;
  --open: #8a5a00; --open-bg: #fdf1d8; --idle: #4a5563; --idle-bg: #e8ebef; --link: #0b57d0; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", "Hiragino Sans", "Noto Sans JP", "Noto Sans CJK JP", sans-serif; }
header, main, footer { max-width: 74rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 2.2rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: .2rem 0 .6rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .8rem; }
h3 { font-size: 1.05rem; margin: 0; }
p { margin: .4rem 0; max-width: 62rem; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
.kicker, .soft { color: var(--soft); } .kicker { font-size: .9rem; letter-spacing: .02em; margin: 0; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: .6rem; overflow: hidden;
  margin: 0 0 1rem; }
.card > .head { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: baseline; padding: .8rem 1.1rem; }
.card > .head .links { margin-left: auto; font-size: .9rem; display: flex; gap: 1rem; }
.card > p { padding: 0 1.1rem .8rem; margin: 0; white-space: pre-line; }
.word { display: inline-block; padding: .05rem .6rem; border-radius: 1rem; font-weight: 600; font-size: .88rem;
  white-space: nowrap; }
.word.pass { color: var(--pass); background: var(--pass-bg); }
.word.fail, .word.error { color: var(--fail); background: var(--fail-bg); }
.word.inconclusive, .word.interrupted { color: var(--open); background: var(--open-bg); }
.word.skipped { color: var(--idle); background: var(--idle-bg); }
h1 .word { font-size: 1.1rem; vertical-align: .15em; margin-right: .5rem; padding: .15rem .9rem; }
.facts { display: flex; flex-wrap: wrap; gap: 1.2rem 2.6rem; margin: 1rem 0 0; }
.facts div { display: flex; flex-direction: column; } .facts b { font-size: 1.3rem; }
.facts span { color: var(--soft); font-size: .88rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td { text-align: left; vertical-align: top; padding: .5rem .8rem; border-top: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; font-size: .85rem; background: #fafbfc; }
th:first-child, td:first-child { padding-left: 1.1rem; } td.n { text-align: right; } th.n { text-align: right; }
table.claims { table-layout: fixed; min-width: 54rem; font-variant-numeric: tabular-nums; }
th.claim { width: 27%; } th.verdict { width: 8.5rem; } th.n { width: 4rem; } th.measured { width: 11rem; }
th.limit { width: 8.5rem; } td.why { color: #39424e; }
svg.interval { display: block; margin-top: .25rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(30rem, 1fr)); gap: 1rem;
  align-items: start; }
@media (max-width: 40rem) { .figures { grid-template-columns: 1fr; } }
figure { margin: 0; background: var(--paper); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; }
figure img { width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .9rem; margin-bottom: .5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1.2rem; margin: .4rem 0; max-width: 62rem; }
dt { font-weight: 600; } dd { margin: 0; }
code { font: .88em ui-monospace, "SFMono-Regular", Consolas, monospace; overflow-wrap: anywhere; }
details { margin: 1rem 0; } summary { cursor: pointer; font-weight: 600; }
footer { padding-top: 2rem; padding-bottom: 2.5rem; color: var(--soft); font-size: .9rem; }
@media print { body { background: #fff; } .card, figure { break-inside: avoid; } }
"""
