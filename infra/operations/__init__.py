"""What watches over a stage, and what stands before it: alarms, dashboard, trail, firewall, console, careful roll-outs.

All of it knows the stage's resources by their names alone, so none of it can hold up a change of what it watches.
"""
