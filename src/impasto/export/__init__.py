"""Write the network as a file that other programs run without this package.

`graph` says what is in the file, `formats` writes it, `runtimes` runs it, and `check` compares its paintings with this
package's own. Only the verb `export` imports this folder.
"""
