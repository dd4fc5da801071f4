"""The template language: read, checked, rendered, and HTML made fit for mail. Nothing here reads a store or the network.

lexer        splits a template into text and tags
safety       refuses templates that could use unbounded time or memory
render       renders subject, text and HTML for one recipient after another (MiniJinja)
markup       reads HTML: tags, attributes, text
text         derives the plain text part from the HTML template
inline_css   copies the rules of `<style>` into the elements; stylesheet reads them
mjml         compiles MJML to HTML
review       warnings about what mail clients and spam filters dislike
"""
