#!/bin/sh
echo waiting for an event
sleep 1000
