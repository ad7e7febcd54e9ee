// Package report turns a benchmark's result into what people read: a table for
// the terminal, plots for the README, and the JSON file that holds everything.
//
// It only formats; it decides nothing about what is measured. The command
// calls it. Plots are SVG with a style sheet of their own: they carry their
// background and switch with the viewer's colour scheme, so they are readable
// in light and dark pages, and without the style sheet's media query too.
package report
